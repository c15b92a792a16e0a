"""Ops between the model and the wire (`deltaplane.v1.Op`), in both directions.

Called by the control plane's log and snapshot (encode) and by the agent's session (decode). It knows no revisions
and no hashes.

Names repeat: 100,000 endpoints stand on a few thousand nodes in a few zones. On the wire they are indexes into the
strings of the message that carries them; in memory equal names, hint tuples and port tuples are one object.
"""

from deltaplane.codec.decode import MalformedError, decode_op, decode_ops
from deltaplane.codec.encode import encode_op

__all__ = ["encode_op", "decode_op", "decode_ops", "MalformedError"]
