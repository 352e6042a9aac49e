"""The command line: one module a command, each with a click command named `command`.

Modules are imported when their command is asked for, and import torch only when it runs.
"""
