"""S7: a choice between profiles. The form comes from the list; no HTML is written.

    jupyterhub -f examples/spawners/s7_profiles.py

Log in with the name of an account of this machine: with your own, or as root with anybody's.
"""

import os

from jupyterhub.spawner import LocalProcessSpawner

c = get_config()
load_subconfig("common.py", path=os.path.dirname(__file__) or ".")


class ProfileSpawner(LocalProcessSpawner):
    """Spawner with selectable profiles"""

    profiles = [
        {
            'display_name': 'Basic Python',
            'description': 'Basic Python environment',
            'default': True,
            'kubespawner_override': {
                'image': 'jupyter/base-notebook',
                'mem_limit': '1G',
                'cpu_limit': 1,
            },
        },
        {
            'display_name': 'Data Science',
            'description': 'Full data science stack',
            'kubespawner_override': {
                'image': 'jupyter/datascience-notebook',
                'mem_limit': '4G',
                'cpu_limit': 2,
            },
        },
    ]

    def options_from_form(self, formdata):
        """Process spawner options from form"""
        profile = formdata.get('profile', [None])[0]
        return {'profile': profile}

    def load_user_options(self, user_options):
        """Load user-selected options"""
        profile_name = user_options.get('profile')
        if profile_name:
            # Apply profile configuration
            profile = next(p for p in self.profiles if p['display_name'] == profile_name)
            for key, value in profile.get('kubespawner_override', {}).items():
                setattr(self, key, value)


c.JupyterHub.spawner_class = ProfileSpawner
