"""The host as Python sees it: config and state as values, the host's errors as failures.

An error that is no failure is not caught here: it ends the call, costs an attempt, and its traceback is the reason.
"""

import json

from componentize_py_types import Err
from wit_world.imports import http, queue, types, wasi_config_store, wasi_keyvalue_store

# Statuses below 500 that may be another one the next time.
WORTH_ANOTHER_ATTEMPT = {401, 403, 408, 409, 421, 423, 425, 429}


def reject(reason):
    """To be raised: this will never work, the message becomes a dead letter at once."""
    return Err(types.Failure_Reject(reason))


def retry(reason, after_ms=None):
    """To be raised: another attempt is worth it, no sooner than after this time."""
    return Err(types.Failure_Retry(types.Retry(reason, after_ms)))


def config():
    """The connector's `config` table."""
    return json.loads(wasi_config_store.get("$") or "{}")


def publish(name, value, key=None):
    """Stages a message: it is committed together with what is being handled."""
    body = json.dumps(value).encode()
    headers = [("content-type", "application/json")]
    draft = types.Draft(id=None, cause=None, key=key, headers=headers, body=body, delay_ms=None, expires_ms=None)
    try:
        return queue.publish(name, [draft])[0]
    except Err as error:
        if isinstance(error.value, queue.PublishError_Full):
            raise retry(error.value.value) from None
        raise reject(error.value.value) from None


def get_json(url):
    """What a GET answers, as a Python value."""
    request = http.Request(method="GET", url=url, headers=[("accept", "application/json")], body=b"", timeout_ms=None)
    try:
        response = http.send(request)
    except Err as error:
        raise http_failure(error.value) from None
    if 200 <= response.status < 300:
        return json.loads(response.body)
    reason = f"{url} answered {response.status}"
    again = response.status >= 500 or response.status in WORTH_ANOTHER_ATTEMPT
    raise retry(reason, retry_after_ms(response)) if again else reject(reason)


def http_failure(error):
    """Why there is no answer, as a failure."""
    match error:
        case http.HttpError_Held(delay_ms):
            return retry("held back by the host", delay_ms)
        case http.HttpError_Unreachable(reason) | http.HttpError_Interrupted(reason):
            return retry(reason)
        case _:
            return reject(error.value)


def retry_after_ms(response):
    """The receiver's wish, where it is a number of seconds."""
    wish = next((value for name, value in response.headers if name == "retry-after"), "")
    return int(wish) * 1000 if wish.isdigit() else None


class State:
    """The connector's state, JSON under each key. It commits together with what is being handled."""

    def __init__(self):
        self.bucket = wasi_keyvalue_store.open("default")

    def get(self, key, default=None):
        value = self.bucket.get(key)
        return default if value is None else json.loads(value)

    def set(self, key, value):
        self.bucket.set(key, json.dumps(value).encode())
