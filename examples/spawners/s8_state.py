"""S8: state of the spawner's own that survives a restart of the Hub.

    jupyterhub -f examples/spawners/s8_state.py

Log in with the name of an account of this machine: with your own, or as root with anybody's.
"""

import os
from datetime import datetime

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class StatefulSpawner(LocalProcessSpawner):
    """Spawner that persists state across restarts"""

    def get_state(self):
        """Get spawner state for persistence"""
        state = super().get_state()
        state.update({
            'custom_setting': self.custom_setting,
            'last_activity': self.last_activity.isoformat(),
        })
        return state

    def load_state(self, state):
        """Load persisted state"""
        super().load_state(state)
        self.custom_setting = state.get('custom_setting')
        if 'last_activity' in state:
            self.last_activity = datetime.fromisoformat(state['last_activity'])


c.JupyterHub.spawner_class = StatefulSpawner
