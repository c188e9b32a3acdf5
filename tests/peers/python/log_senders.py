"""Log senders that people have: one run sends what its arguments say and ends with status 0 when all was taken."""

import gzip
import json
import logging
import socket
import sys
import time


def fluent_logger(port, tag, count):
    from fluent import sender

    logger = sender.FluentSender(tag, host="127.0.0.1", port=port, nanosecond_precision=True)
    for i in range(count):
        if not logger.emit("app", {"message": f"fluent {i}", "level": "warning", "number": i, "user": {"id": i}}):
            sys.exit(f"not taken: {logger.last_error}")
    logger.close()


def fluent_handler(port, tag, count):
    from fluent import handler

    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    fluent = handler.FluentHandler(tag, host="127.0.0.1", port=port)
    fluent.setFormatter(handler.FluentRecordFormatter({"level": "%(levelname)s", "where": "%(module)s"}))
    log.addHandler(fluent)
    for i in range(count):
        log.error("handled %d", i)
    fluent.close()


def event_time(at):
    import msgpack

    return msgpack.ExtType(0, int(at).to_bytes(4, "big") + int(at % 1 * 1e9).to_bytes(4, "big"))


def forward(address, mode, first, count, chunk):
    """Sends a chunk again and again, as Fluentd and Fluent Bit do, until it is acknowledged."""
    import msgpack

    now = time.time()
    entries = [[event_time(now), {"log": f"{mode} {i}\n", "n": i}] for i in range(first, first + count)]
    option = {"chunk": chunk, "size": count}
    packed = b"".join(msgpack.packb(entry) for entry in entries)
    if mode == "message":
        message = ["app.message", *entries[0], option]
    elif mode == "forward":
        message = ["app.forward", entries, option]
    elif mode == "packed":
        message = ["app.packed", packed, option]
    else:
        message = ["app.gzip", gzip.compress(packed), option | {"compressed": "gzip"}]
    wire = msgpack.packb(message)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if address.startswith("/"):
                peer = socket.socket(socket.AF_UNIX)
                peer.settimeout(10)
                peer.connect(address)
            else:
                peer = socket.create_connection(("127.0.0.1", int(address)), timeout=10)
            with peer:
                peer.sendall(wire)
                unpacker = msgpack.Unpacker()
                while data := peer.recv(4096):
                    unpacker.feed(data)
                    for answer in unpacker:
                        if answer == {"ack": chunk}:
                            return
                        sys.exit(f"answer {answer}")
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("no acknowledgement")


def digest(*parts):
    import hashlib

    joined = hashlib.sha512()
    for part in parts:
        joined.update(part if isinstance(part, bytes) else part.encode())
    return joined.hexdigest()


def handshake(port, key, user, password):
    """Shakes hands and sends an event; the status says whether the server let us in."""
    import msgpack

    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        unpacker = msgpack.Unpacker()

        def answer():
            while True:
                for message in unpacker:
                    return message
                data = peer.recv(4096)
                if not data:
                    sys.exit("closed")
                unpacker.feed(data)

        name, option = answer()
        assert name == "HELO", name
        nonce, auth = option["nonce"], option["auth"]
        proof = digest(auth, user, password) if auth else ""
        ping = ["PING", "client", b"salt", digest(b"salt", "client", nonce, key), user, proof]
        peer.sendall(msgpack.packb(ping))
        name, taken, reason, hostname, proof = answer()
        assert name == "PONG", name
        if not taken:
            sys.exit(f"refused: {reason}")
        assert proof == digest(b"salt", hostname, nonce, key), "the server has another key"
        peer.sendall(msgpack.packb(["in", event_time(time.time()), {"log": "let in"}, {"chunk": "c"}]))
        assert answer() == {"ack": "c"}


def gelf(package, transport, port, count, text):
    log = logging.getLogger("gelf")
    log.setLevel(logging.DEBUG)
    if package == "pygelf":
        import pygelf

        make = {"udp": pygelf.GelfUdpHandler, "tcp": pygelf.GelfTcpHandler}[transport]
        more = {"chunk_size": 300, "compress": True} if transport == "udp" else {}
        sender = make(host="127.0.0.1", port=port, include_extra_fields=True, _app="pygelf", **more)
    else:
        import graypy

        make = {"udp": graypy.GELFUDPHandler, "tcp": graypy.GELFTCPHandler}[transport]
        sender = make("127.0.0.1", port, facility="graypy")
    log.addHandler(sender)
    for i in range(count):
        log.warning("%s %d", text, i, extra={"number": i})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    sender.close()


if __name__ == "__main__":
    arguments = [json.loads(a) for a in sys.argv[2:]]
    globals()[sys.argv[1]](*arguments)
