"""A Backend.AI agent's own statistics code over scripted kernels.

    PYTHON -m tests.support.agent '{"redis": "127.0.0.1:6379", "port": 16003}'

PYTHON is a Python 3.13 with `backend.ai-agent`; the JSON is `Options`. Context, plugins, task loop,
observers and the writer to Redis are the package's; scripted are the kernels' cgroup files, the
accelerators and the container engine. `/metrics` is what the agent exports, `/kernels` names them.
"""
