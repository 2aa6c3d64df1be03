"""A stand-in for a Kubernetes cluster: an API server that keeps state and rules, and a kubelet that really runs pods.

No package registry carries a real API server. What a real one (1.20.2) answered to the requests that matter here is
written down as a table, and `tests/system/test_kubernetes_standin.py` holds this one to it, row by row.

| module | what it knows |
|---|---|
| `kinds` | which resources there are, and by which fields each may be selected |
| `refusals` | the `Status` objects of refusals, word for word |
| `schema` | the published schemas: what cannot be decoded, and what a strict reader would complain about |
| `selectors` | label and field selectors |
| `rules` | what an object is given, and what it must satisfy, when it is made or changed |
| `quota` | how much of a namespace's quotas is used |
| `store` | objects, resource versions, history, deletion with grace and finalizers |
| `access` | tokens, and what each may do |
| `requests` | a request taken apart |
| `http` | requests in, answers out |
| `watch` | lists in pages, and watches |
| `controllers` | what the controller manager and the scheduler do |
| `kubelet` | pods as containers of a Docker engine |
| `containers` | the API of the Docker engine, and the settings of a container |
| `volumes` | volumes as directories, and environments |
| `certificate` | the certificate of the API server |
| `cluster` | all of it in a thread, at an address, which can be away for a while |

It is no cluster: one node, no network policies, no probes, no name service (the names of services that have a pod are
in a pod's /etc/hosts), no admission webhooks, no Deployments, no JSON patch, no deletion of collections. A kind,
method or format that it does not know it refuses with 404, 405 or 415.
"""

from .cluster import Cluster

__all__ = ["Cluster"]
