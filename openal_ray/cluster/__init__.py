"""The only folder that imports Ray: connect, shard actors, Ray Train. Ray reads these settings when it is imported."""

import os
import sys

_SETTINGS = {
    "RAY_AUTH_MODE": "token",  # a cluster without it lets anyone who reaches a port run code
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # report() blocks for one such interval; the default is 2 s
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # do not touch CUDA_VISIBLE_DEVICES of CPU actors; keeps Ray quiet
}

if "ray" not in sys.modules:  # settings that Ray has not read would hold for its daemons but not for this process
    for _name, _value in _SETTINGS.items():
        os.environ.setdefault(_name, _value)
