"""What a program with redis-py does: python3 clients.py HOST PORT RESP-VERSION."""

import sys

import redis

host, port, protocol = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = redis.Redis(host=host, port=port, protocol=protocol, socket_timeout=30)


def check(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


check(client.ping(), True)
client.flushall()
check(client.set("key", "value"), True)
check(client.get("key"), b"value")
check(client.get("nothing"), None)
check(client.set("key", "other", nx=True), None)
check(client.set("key", "new", get=True), b"value")
check(client.set("short", "life", ex=100), True)
assert 0 < client.ttl("short") <= 100
check(client.getex("short", persist=True), b"life")
check(client.ttl("short"), -1)
check(client.incr("count"), 1)
check(client.incrby("count", 9), 10)
check(client.incrbyfloat("float", 0.5), 0.5)
check(client.mset({"a": 1, "b": 2}), True)
check(client.mget("a", "b", "c"), [b"1", b"2", None])
check(client.exists("a", "b", "c"), 2)
check(client.type("a"), b"string")
check(client.append("a", "23"), 3)
check(client.getdel("a"), b"123")
check(client.rename("b", "c"), True)
check(client.delete("c", "nothing"), 1)
check(sorted(client.scan_iter(count=2)), [b"count", b"float", b"key", b"short"])
check(client.dbsize(), 4)

with client.pipeline(transaction=False) as pipeline:
    for number in range(100):
        pipeline.set(f"p:{number}", number)
    check(pipeline.execute(), [True] * 100)
check(client.mget([f"p:{number}" for number in range(100)]), [str(n).encode() for n in range(100)])

binary = bytes(range(256)) * 10
client.set(b"\x00\xff", binary)
check(client.get(b"\x00\xff"), binary)

try:
    client.incr("key")
except redis.ResponseError as error:
    assert "not an integer" in str(error), error
else:
    raise AssertionError("INCR of a text succeeded")

try:
    client.execute_command("NONSENSE")
except redis.ResponseError as error:
    assert "unknown command" in str(error).lower(), error
else:
    raise AssertionError("an unknown command succeeded")

assert "role" in client.info("replication")
print("ok")
