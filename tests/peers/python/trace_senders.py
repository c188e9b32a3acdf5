"""Trace senders that people have: one run sends what its arguments say and ends with status 0 when all was sent."""

import sys
import time
import urllib.request


def close(tracer):
    """Sends what is left."""
    closed = tracer.close()
    until = time.monotonic() + 20
    while not closed.done():
        if time.monotonic() > until:
            sys.exit("spans were not sent")
        time.sleep(0.01)


def jaeger_client(port):
    """The client itself, over UDP in compact thrift: a request with a failing call inside."""
    from jaeger_client import Config

    config = Config(
        config={
            "sampler": {"type": "const", "param": 1},
            "local_agent": {"reporting_host": "127.0.0.1", "reporting_port": port},
            "generate_128bit_trace_id": True,
            "tags": {"region": "eu"},
        },
        service_name="shop",
    )
    tracer = config.new_tracer()
    with tracer.start_span("GET /cart") as request:
        request.set_tag("span.kind", "server")
        request.set_tag("user", 7)
        with tracer.start_span("SELECT cart", child_of=request) as call:
            call.set_tag("span.kind", "client")
            call.set_tag("error", True)
            call.log_kv({"event": "retry", "attempt": 2})
    print(f"{request.trace_id:032x}")
    close(tracer)


def jaeger_remote(port, sampling_port):
    """The client with its usual sampler, a remote one: one trace of a thousand until it is told to sample everything."""
    from jaeger_client import Config

    config = Config(
        config={
            "sampling_refresh_interval": 1,
            "local_agent": {
                "reporting_host": "127.0.0.1",
                "reporting_port": port,
                "sampling_port": sampling_port,
            },
        },
        service_name="told",
    )
    tracer = config.new_tracer()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with tracer.start_span("maybe") as span:
            if span.is_sampled():
                break
        time.sleep(0.05)
    else:
        sys.exit("never told to sample")
    print(f"{span.trace_id:x}")
    close(tracer)


def batch(service, name, trace_id):
    from jaeger_client.thrift_gen.jaeger import ttypes

    tags = [
        ttypes.Tag(key="span.kind", vType=ttypes.TagType.STRING, vStr="client"),
        ttypes.Tag(key="ratio", vType=ttypes.TagType.DOUBLE, vDouble=0.5),
        ttypes.Tag(key="n", vType=ttypes.TagType.LONG, vLong=-3),
        ttypes.Tag(key="flag", vType=ttypes.TagType.BOOL, vBool=False),
    ]
    log = ttypes.Log(
        timestamp=int(time.time() * 1e6), fields=[ttypes.Tag(key="event", vType=ttypes.TagType.STRING, vStr="sent")]
    )
    link = ttypes.SpanRef(refType=ttypes.SpanRefType.FOLLOWS_FROM, traceIdLow=9, traceIdHigh=0, spanId=8)
    span = ttypes.Span(
        traceIdLow=trace_id,
        traceIdHigh=0,
        spanId=trace_id + 1,
        parentSpanId=trace_id + 2,
        operationName=name,
        references=[link],
        flags=1,
        startTime=int(time.time() * 1e6),
        duration=1500,
        tags=tags,
        logs=[log],
    )
    return ttypes.Batch(process=ttypes.Process(serviceName=service, tags=[]), spans=[span])


def thrift_http(url, trace_id):
    """A batch in binary thrift over HTTP."""
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift.transport.TTransport import TMemoryBuffer

    buffer = TMemoryBuffer()
    batch("over-http", "send", trace_id).write(TBinaryProtocol(buffer))
    request = urllib.request.Request(url, buffer.getvalue(), {"Content-Type": "application/x-thrift"})
    with urllib.request.urlopen(request) as answer:
        if answer.status != 202:
            sys.exit(f"status {answer.status}")


def thrift_udp(port, protocol, trace_id):
    """A batch to an agent, compact or binary."""
    import socket

    from jaeger_client.thrift_gen.agent import Agent
    from thrift.Thrift import TMessageType
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift.protocol.TCompactProtocol import TCompactProtocol
    from thrift.transport.TTransport import TMemoryBuffer

    buffer = TMemoryBuffer()
    out = {"compact": TCompactProtocol, "binary": TBinaryProtocol}[protocol](buffer)
    out.writeMessageBegin("emitBatch", TMessageType.ONEWAY, 1)
    Agent.emitBatch_args(batch(f"over-{protocol}", "send", trace_id)).write(out)
    out.writeMessageEnd()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(buffer.getvalue(), ("127.0.0.1", port))


def py_zipkin(url):
    """A request with a call inside, as JSON of version 2."""
    from py_zipkin import Encoding
    from py_zipkin.transport import SimpleHTTPTransport
    from py_zipkin.zipkin import ZipkinAttrs, zipkin_client_span, zipkin_span
    from py_zipkin.util import generate_random_64bit_string

    host, port = url.split(":")
    trace = generate_random_64bit_string()
    attributes = ZipkinAttrs(trace, generate_random_64bit_string(), None, "0", True)
    with zipkin_span(
        service_name="kiosk",
        span_name="get /",
        zipkin_attrs=attributes,
        transport_handler=SimpleHTTPTransport(host, int(port)),
        encoding=Encoding.V2_JSON,
        binary_annotations={"user": "7"},
    ):
        with zipkin_client_span(service_name="kiosk", span_name="fetch"):
            pass
    print(trace)


sender, *arguments = sys.argv[1:]
globals()[sender](*(int(a) if a.isdigit() else a for a in arguments))
