"""Python imports this first where it is on the path: while a file says so, jobs wait before they render.

While another file says so they find room on any disk, as one does that is filled a moment later.
"""

import importlib.machinery
import os
import sys
import time
from pathlib import Path


def is_there(name):
    return Path(os.environ["REDRUM_DATA"], name).exists()


def waits(update):
    def wait(progress, stage, fraction):
        update(progress, stage, fraction)
        while stage == "render" and is_there("wait"):
            progress.check()
            time.sleep(0.02)

    return wait


def change_job_files(module):
    module.JobProgress.update = waits(module.JobProgress.update)


def change_facts(module):
    check = module._check_room
    module._check_room = lambda *args: is_there("any room") or check(*args)


CHANGES = {"daw_bridge.job_files": change_job_files, "daw_bridge.ardour.facts": change_facts}


class Changed:
    """Finds the modules, and changes them once they are loaded."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_change(module):
            load(module)
            CHANGES[name](module)

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, Changed)
