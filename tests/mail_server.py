"""A mail server on a free port of the loopback: says its port, then each mail that it takes, one JSON object a line.

Its arguments are the password and, if it is to insist on STARTTLS, the files of a certificate and its key.
"""

import asyncio
import base64
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Keeper:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = [
            {
                "type": part.get_content_type(),
                "id": part["content-id"],
                "content": base64.b64encode(part.get_payload(decode=True)).decode(),
            }
            for part in mail.walk()
            if not part.is_multipart()
        ]
        kept = {"to": envelope.rcpt_tos, "subject": mail["subject"], "id": mail["message-id"], "parts": parts}
        print(json.dumps(kept), flush=True)
        return "250 taken"


def may_enter(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"foretime", sys.argv[1].encode())
    return AuthResult(success=known, handled=known)


def private():
    if len(sys.argv) < 4:
        return {"auth_require_tls": False}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    return {"tls_context": context, "require_starttls": True}


def protocol():
    return SMTP(Keeper(), hostname="localhost", authenticator=may_enter, auth_required=True, **private())


async def main():
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
