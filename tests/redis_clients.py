"""Cutting off the clients of a Redis, as a restart of it would."""

from redis import Redis


def cut_clients(url: str, *kinds: str) -> int:
    """End the connections of these kinds (`normal`, `pubsub`) to the database of `url` alone.

    Tests that run side by side have databases of one server. Returns how many were ended.
    """
    with Redis.from_url(url) as redis:
        mine, here = redis.client_id(), str(redis.connection_pool.connection_kwargs["db"])
        others = [
            client["id"]
            for kind in kinds
            for client in redis.client_list(_type=kind)
            if client["db"] == here and int(client["id"]) != mine
        ]
        return sum(redis.client_kill_filter(_id=client) for client in others)
