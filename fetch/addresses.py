"""Which IP addresses are public, and which are never connected to."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What the IANA registries of special-purpose addresses call not globally reachable or deprecated. Written out because
# Python's is_global differs between patch releases and calls multicast, fec0::/10 and newer entries global.
_CLOSED_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # in public space, yet inside Azure it is the host's own control service
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_OPEN_IPV6 = ipaddress.IPv6Network("2000::/3")  # all that is given out as global unicast
_CLOSED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarking, ORCHID: protocols, no web servers
        "2001:db8::/32",
        "2002::/16",  # 6to4, deprecated; a way to any IPv4 address
        "3fff::/20",
    )
)
_MAPPED_IPV4 = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # where a cluster has IPv6 alone, every IPv4 server has such an address


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, the same on every version of Python.

    Addresses that hold an IPv4 address and reach it (mapped, NAT64) are as public as that one; other forms that hold
    one (6to4, Teredo, local-use NAT64) are not public. A network's own NAT64 prefix cannot be told from other public
    addresses.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    if address.scope_id is not None or is_never_allowed(address):
        return False
    if address in _MAPPED_IPV4 or address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _OPEN_IPV6 and not any(address in network for network in _CLOSED_IPV6)


# Where clouds answer their own machines with credentials, and what is on this link alone. Nothing that a catalog could
# mean is there, so that no flag opens them.
_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure
        "169.254.0.0/16",  # link-local; the metadata service of nearly every cloud
        "192.0.0.192/32",  # Oracle Cloud
        "fd00:42::42/128",  # Scaleway
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::/32",  # Google
        "fe80::/10",  # link-local
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")


def is_never_allowed(address: Address) -> bool:
    """Whether an address is link-local or a cloud's metadata service, in any form that reaches it.

    IPv6 addresses that hold such an IPv4 address are told in every form there is: mapped, compatible, NAT64 under any
    prefix of 96 bits, ISATAP, 6to4, Teredo.
    """
    if any(address in network for network in _NEVER if network.version == address.version):
        return True
    return isinstance(address, ipaddress.IPv6Address) and any(map(is_never_allowed, _held_ipv4(address)))


def _held_ipv4(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    packed = address.packed
    held = []
    if packed[8:12] in (b"\0\0\0\0", b"\0\0\xff\xff", b"\0\0\x5e\xfe", b"\2\0\x5e\xfe"):
        held.append(packed[-4:])
    if address.sixtofour is not None:
        held.append(packed[2:6])
    if address in _TEREDO:
        held.append(bytes(byte ^ 0xFF for byte in packed[-4:]))
    return [ipaddress.IPv4Address(four) for four in held]
