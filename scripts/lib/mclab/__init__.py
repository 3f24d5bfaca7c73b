# SPDX-License-Identifier: GPL-2.0-or-later
"""A cluster in a box: hosts as namespaces on a switch, real mcds, real QEMU guests.

    with Lab(build) as lab:
        lab.add_hosts("hostA", "hostB", "hostC")
        lab.start_mcd()
        vm = lab.add_vm("vm1")
        lab.start_vm(vm, "hostA")
        lab.mcctl("hostA", "protect", "vm1", "--peer", "hostB")
        client = lab.start_client(vm)
        off = lab.poweroff("hostA")

Needs root.  Touches nothing outside its own namespaces, its work directory under /tmp and, for
freezing hosts, cgroups of its own; all of it is gone when the `with` block is left, however that
happens, and what a killed run has left is removed by the next one (sweep.py).
"""
from .proc import LabError
from .lab import Lab
from .vm import Vm

__all__ = ["Lab", "LabError", "Vm"]
