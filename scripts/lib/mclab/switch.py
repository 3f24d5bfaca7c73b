# SPDX-License-Identifier: GPL-2.0-or-later
"""The switch: a namespace with a bridge for each network, and what can go wrong with its ports.

`vm` is the network the guests and the client are on, `cluster` the one the mcds talk over, and
`beat` one for the keep-alives in labs that are to have one.  Host X is on ports vm-X, cl-X and ka-X;
the client is on port vm-client.  The lab itself reaches the agents of lab hosts (vmhost.py) over
MANAGEMENT, which no fault touches.
"""
import fcntl
import os
import socket
import struct

from .proc import in_netns, run

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TUNSETIFF, TUNSETPERSIST, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454ca, 0x400454cb, 2, 0x1000, 0x4000
NETWORKS = {"vm": "vmnet", "cluster": "clnet", "beat": "kanet"}
MANAGEMENT = "lab"
BRIDGES = {**NETWORKS, MANAGEMENT: "mgnet"}
PORTS = {"vm": "vm-", "cluster": "cl-", "beat": "ka-", MANAGEMENT: "mg-"}

# Frames between two ports (pair) or on any port (cut) are dropped on their way through the bridge:
# unlike with a port set down nobody sees a lost carrier.
RULES = """
table bridge lab {
  set cut { type ifname; }
  set dead_udp { type inet_service; }
  set pair { type ifname . ifname; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname @cut drop
    oifname @cut drop
    iifname . oifname @pair drop
    udp dport @dead_udp drop
  }
}
"""


def quiet(ns):
    """No IPv6 autoconfiguration: its solicitations would be in every capture."""
    for scope in ("all", "default"):
        run(["ip", "netns", "exec", ns, "sh", "-c",
             "echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6" % scope])


def port(network, host):
    return PORTS[network] + host


class Switch:
    """mtu: of the network of the mcds; RDMA over Ethernet wants room for 4096 bytes and its headers."""

    def __init__(self, prefix, mtu=1500):
        self.ns, self._plugged = prefix + "-sw", set()
        self.mtu = {"cluster": mtu}
        run(["ip", "netns", "add", self.ns])
        quiet(self.ns)
        self._ip("link set lo up")
        for bridge in BRIDGES.values():
            self._ip("link add %s type bridge forward_delay 0 mcast_snooping 0" % bridge,
                     "link set %s up" % bridge)
        self._ip("addr add 10.76.0.254/24 dev %s" % BRIDGES[MANAGEMENT])
        self._nft(RULES)
        self._ioctl = in_netns(self.ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def _ip(self, *lines):
        run(["ip", "-n", self.ns, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def _nft(self, text):
        run(["ip", "netns", "exec", self.ns, "nft", "-f", "-"], stdin=text)

    def plug_in(self, network, host, ns, ifname):
        """Lays a cable from a port of the switch to `ifname` in the namespace `ns`."""
        name = port(network, host)
        self._plugged.add(name)
        mtu = "mtu %d" % self.mtu[network] if network in self.mtu else ""
        self._ip("link add %s %s type veth peer name %s %s netns %s" % (name, mtu, ifname, mtu, ns),
                 "link set %s master %s up" % (name, NETWORKS[network]))

    def add_tap(self, network, host):
        """A port for a card of a virtual machine, who gets it by open_tap; it outlives that machine."""
        os.close(self.open_tap(network, host, persist=True))
        name = port(network, host)
        self._plugged.add(name)
        mtu = "mtu %d" % self.mtu[network] if network in self.mtu else ""
        self._ip("link set %s master %s %s up" % (name, BRIDGES[network], mtu))

    def open_tap(self, network, host, persist=False):
        """A descriptor of the port's tap, with vnet headers, for QEMU."""
        def opened():
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", port(network, host).encode(),
                                                       IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
                if persist:
                    fcntl.ioctl(fd, TUNSETPERSIST, 1)
            except OSError:
                os.close(fd)
                raise
            return fd
        return in_netns(self.ns, opened)

    def links(self, host, up, networks=tuple(NETWORKS)):
        """Sets ports up or down, at once: an ioctl each, no process."""
        for network in networks:
            if port(network, host) not in self._plugged:
                continue
            name = port(network, host).encode()
            req = bytearray(fcntl.ioctl(self._ioctl, SIOCGIFFLAGS, struct.pack("16sH22x", name, 0)))
            flags = struct.unpack_from("H", req, 16)[0]
            struct.pack_into("H", req, 16, flags | IFF_UP if up else flags & ~IFF_UP)
            fcntl.ioctl(self._ioctl, SIOCSIFFLAGS, bytes(req))

    def cut_udp(self, number):
        """What is sent to that UDP port is lost, and nothing else: 4791 is RDMA over Ethernet."""
        self._nft("add element bridge lab dead_udp { %d }" % number)

    def heal_udp(self):
        self._nft("flush set bridge lab dead_udp")

    def cut_pair(self, a, b, networks=("cluster",)):
        """Nothing passes between a and b any more; both still reach everybody else."""
        pairs = []
        for n in networks:
            pairs += ['"%s" . "%s"' % (port(n, a), port(n, b)), '"%s" . "%s"' % (port(n, b), port(n, a))]
        self._nft("add element bridge lab pair { %s }" % ", ".join(pairs))

    def heal_pairs(self):
        self._nft("flush set bridge lab pair")

    def isolate(self, host, networks=("cluster",)):
        """Nothing passes from or to the host; its carrier stays."""
        self._nft("add element bridge lab cut { %s }" %
                  ", ".join('"%s"' % port(n, host) for n in networks))

    def rejoin(self, host, networks=("cluster",)):
        self._nft("delete element bridge lab cut { %s }" %
                  ", ".join('"%s"' % port(n, host) for n in networks))

    def close(self):
        self._ioctl.close()
        run(["ip", "netns", "del", self.ns], check=False)
