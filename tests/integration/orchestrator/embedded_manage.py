"""Stands in for `manage.py`: the commands that the demo calls, with answers set by the test."""

import json
import os
import sys

DEMO = {
    "tenant": "acme",
    "project": "research",
    "admin_user": "ada",
    "admin_password": "secret",
    "api_key": "key-1",
}

if sys.argv[1] == "demo_data":
    sys.stdout.write(json.dumps(DEMO) + "\n")
if sys.argv[1] == "run":
    sys.stderr.write("outline completed\n")
    sys.stdout.write(json.dumps({"run_id": "r1", "arguments": sys.argv[2:]}) + "\n")
    sys.exit(int(os.environ.get("STUB_RUN_CODE", "0")))
