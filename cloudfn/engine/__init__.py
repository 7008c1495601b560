"""Makes a plan real with the Pulumi engine: the Automation API, driven in this process.

`operations.Deployment` is the way in. Pulumi is imported where it is used, so that `cloudfn plan` never pays for it.
"""
