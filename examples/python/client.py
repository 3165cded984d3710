"""A client in Python: updates a user, shows errors, repeats a request, and follows a watch.

    pip install grpcio-tools==1.85.0 googleapis-common-protos grpcio-status==1.85.0
    python -m grpc_tools.protoc --proto_path=proto --python_out=. --grpc_python_out=. proto/m4/userdetails/v1/*.proto
    python examples/python/client.py 127.0.0.1:50051 [TOKEN]
"""

import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from m4.userdetails.v1 import user_details_service_pb2 as pb
from m4.userdetails.v1.user_details_service_pb2_grpc import UserDetailsServiceStub

USER_ID, DEADLINE, ATTEMPTS = 5, 5, 3


def show(error):
    """Prints the message, which ends with the reason, and every invalid field.

    A program decides by the reason: `ErrorInfo` is one of the details.
    """
    print("error:", error.details())
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            for violation in bad.field_violations:
                print(f"  {violation.field}: {violation.description}")


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    metadata = [("authorization", f"Bearer {sys.argv[2]}")] if len(sys.argv) > 2 else []
    users = UserDetailsServiceStub(grpc.insecure_channel(address))

    def update(**fields):
        request = pb.UpdateUserDetailsRequest(**{"user_id": USER_ID, **fields})
        return users.UpdateUserDetails(request, timeout=DEADLINE, metadata=metadata)

    # The first response has only a resume token: from now on no change is missed.
    changes = users.WatchUserDetails(pb.WatchUserDetailsRequest(user_id=USER_ID), metadata=metadata)
    next(changes)

    city = {"address": {"city": "York"}}
    print("updated: city is York, etag", update(user_details=city).user_details.etag)
    change = next(response.change for response in changes if response.HasField("change"))
    print(f"watched: change {change.change_id} of {', '.join(change.changed_fields.paths)} through {change.door}")
    changes.cancel()

    for fields in (
        {"user_id": 999, "user_details": city},
        {"user_details": {"general": {"call_limit": -7}}},
        {"user_details": {**city, "etag": "5-0"}},
    ):
        try:
            update(**fields)
        except grpc.RpcError as error:
            show(error)

    # With a request id, a repeat stores nothing and gets the first answer.
    etags = []
    for attempt in range(ATTEMPTS):
        try:
            answer = update(user_details={"address": {"city": "Hull"}}, request_id="5f2c8f4e-52e5-4a35-8b1a-6c2f0f7d9b02")
            etags.append(answer.user_details.etag)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(1)
        # Once more, as if the first answer had been lost.
        if len(etags) == 2:
            break
    print("repeated: etag", ", then ".join(etags))


main()
