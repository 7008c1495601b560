"""One file for each system under test."""

from __future__ import annotations

from importlib import import_module

from benchmarks.system import System

SYSTEMS = {
    "floor": "floor:Floor",
    "cloudfn": "cloudfn_:Cloudfn",
    "pool": "pool:PoolSystem",
    "executor": "executor:executor",
    "loky": "loky_:loky",
    "joblib": "joblib_:Joblib",
    "dask": "dask_:Dask",
    "celery": "celery_:Celery",
    "parsl": "parsl_:Parsl",
    "lithops": "lithops_:Lithops",
    "ray": "ray_:RayTasks",
    "ray-actor": "ray_:RayActors",
}


def load(name: str) -> System:
    module, _, attribute = SYSTEMS[name].partition(":")
    system: System = getattr(import_module(f"benchmarks.systems.{module}"), attribute)()
    return system
