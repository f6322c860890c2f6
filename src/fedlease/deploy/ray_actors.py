"""The actors of this process's run on Ray: what they are at, and their end.

Flower keeps its actors to itself and Ray's public functions want the handles that Flower has, so this asks
Ray's own parts. Flower pins the version of Ray that they belong to.
"""

from __future__ import annotations

from typing import Any


def told() -> str:
    """Say for a person how many actors there are, and what is free for those that are not."""
    import ray

    try:
        mine = [one["State"] for one in _actors().values()]
        total, free = (of.get("CPU", 0.0) for of in (ray.cluster_resources(), ray.available_resources()))
    except Exception as error:  # Ray's own are of all kinds
        return f"and Ray does not say why: {error}"
    there, dead = mine.count("ALIVE"), mine.count("DEAD")
    return (
        f"{there} actors are there and {len(mine) - there - dead} wait for a place; "
        f"{free:g} of the {total:g} CPUs of the cluster are free"
    )


def end() -> None:
    """End all actors, whatever they are at.

    To be done while Ray is still there: a thread that waits for an actor's answer is told that the actor is
    dead, but where Ray is left before, nobody tells it anything any more, and its process never ends.
    """
    import ray
    from ray._private.worker import global_worker

    if not ray.is_initialized():
        return
    for number, one in _actors().items():
        if one["State"] != "DEAD":
            global_worker.core_worker.kill_actor(ray.ActorID.from_hex(number), True)


def _actors() -> dict[str, Any]:
    """Ray's table of the actors that this process had started, by their numbers."""
    import ray
    from ray._private import state

    here = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    return dict(state.actors(job_id=here))
