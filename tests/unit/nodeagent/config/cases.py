"""Configurations that kube-proxy refuses, with its words; the end-to-end tests ask kube-proxy itself about them."""

from __future__ import annotations

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
ROOT = "KubeProxyConfiguration"
CONNTRACK = f"{ROOT}.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration"
IPVS = f"{ROOT}.KubeProxyIPVSConfiguration"
DETECT = f"{ROOT}.DetectLocalConfiguration"
PAIR = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"
BLOCK = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
BIT = "must be within the range [0, 31]"
POSITIVE, NOT_NEGATIVE = "must be greater than 0", "must be greater than or equal to 0"
DETECTORS = '"ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", ""'
NEGATIVE_CONNTRACK = """
conntrack:
  maxPerCore: -1
  min: -2
  tcpEstablishedTimeout: -1s
  tcpCloseWaitTimeout: -2s
  udpTimeout: -3s
  udpStreamTimeout: -4s
"""

INVALID = [
    ("mode: iptables\niptables: {masqueradeBit: 32}",
     [f"{ROOT}.KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: {BIT}"]),
    ("mode: nftables\niptables: {masqueradeBit: -1}\nnftables: {masqueradeBit: 33}",
     [f"{ROOT}.KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: -1: {BIT}",
      f"{ROOT}.KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: 33: {BIT}"]),
    ("mode: ipvs\nipvs: {tcpTimeout: -1s, tcpFinTimeout: -2s, udpTimeout: -3s, excludeCIDRs: [10.0.0.0/8, x]}",
     [f'{IPVS}.TCPTimeout: Invalid value: "-1s": {NOT_NEGATIVE}',
      f'{IPVS}.TCPFinTimeout: Invalid value: "-2s": {NOT_NEGATIVE}',
      f'{IPVS}.UDPTimeout: Invalid value: "-3s": {NOT_NEGATIVE}',
      f'{IPVS}.ExcludeCidrs[1]: Invalid value: "x": must be a valid CIDR']),
    (f"mode: iptables\n{NEGATIVE_CONNTRACK}",
     [f"{CONNTRACK}.MaxPerCore: Invalid value: -1: {NOT_NEGATIVE}",
      f"{CONNTRACK}.Min: Invalid value: -2: {NOT_NEGATIVE}",
      f'{CONNTRACK}.TCPEstablishedTimeout: Invalid value: "-1s": {NOT_NEGATIVE}',
      f'{CONNTRACK}.TCPCloseWaitTimeout: Invalid value: "-2s": {NOT_NEGATIVE}',
      f'{CONNTRACK}.UDPTimeout: Invalid value: "-3s": {NOT_NEGATIVE}',
      f'{CONNTRACK}.UDPStreamTimeout: Invalid value: "-4s": {NOT_NEGATIVE}']),
    ("mode: nftables\noomScoreAdj: 1001",
     [f"{ROOT}.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]"]),
    ("mode: nftables\nclientConnection: {burst: -5}",
     [f"{ROOT}.ClientConnection.Burst: Invalid value: -5: {NOT_NEGATIVE}"]),
    ("mode: nftables\nconfigSyncPeriod: -1s\nnftables: {syncPeriod: -2s, minSyncPeriod: -3s}",
     [f'{ROOT}.ConfigSyncPeriod: Invalid value: "-1s": {POSITIVE}',
      f'{ROOT}.SyncPeriod: Invalid value: "-2s": {POSITIVE}',
      f'{ROOT}.MinSyncPeriod: Invalid value: "-3s": {NOT_NEGATIVE}']),
    ("mode: ipvs\nipvs: {syncPeriod: 5s, minSyncPeriod: 10s}",
     [f'{ROOT}.SyncPeriod: Invalid value: "10s": must be greater than or equal to {ROOT}.MinSyncPeriod']),
    ("mode: nftables\nbindAddress: 10.0.0",
     [f'{ROOT}.BindAddress: Invalid value: "10.0.0": not a valid textual representation of an IP address']),
    ("mode: nftables\nhealthzBindAddress: 1.2.3.4:5:6\nmetricsBindAddress: a:b",
     [f'{ROOT}.HealthzBindAddress: Invalid value: "1.2.3.4:5:6": must be IP:port',
      f'{ROOT}.MetricsBindAddress: Invalid value: "a": must be a valid IP',
      f'{ROOT}.MetricsBindAddress: Invalid value: "b": must be a valid port']),
    ('mode: nftables\nhealthzBindAddress: "[::1]:0"\nmetricsBindAddress: 127.0.0.1:65536',
     [f'{ROOT}.HealthzBindAddress: Invalid value: "0": must be a valid port',
      f'{ROOT}.MetricsBindAddress: Invalid value: "65536": must be a valid port']),
    ("mode: nftables\nnodePortAddresses: [10.0.0.0/8, 127.0.0.1, fd00::/129]",
     [f'{ROOT}.NodePortAddresses[1]: Invalid value: "127.0.0.1": must be a valid CIDR',
      f'{ROOT}.NodePortAddresses[2]: Invalid value: "fd00::/129": must be a valid CIDR']),
    ("mode: nftables\nnodePortAddresses: [10.0.0.0/8, primary, x]",
     [f"{ROOT}.NodePortAddresses[1]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"]),
    ("mode: nftables\ndetectLocalMode: Guess",
     [f'{ROOT}.DetectLocalMode: Unsupported value: "Guess": supported values: {DETECTORS}']),
    ("mode: nftables\ndetectLocalMode: BridgeInterface",
     [f'{DETECT}.InterfaceName: Invalid value: "": must not be empty']),
    ("mode: nftables\ndetectLocalMode: InterfaceNamePrefix",
     [f'{DETECT}.InterfacePrefix: Invalid value: "": must not be empty']),
    ("mode: nftables\nclusterCIDR: 10.0.0.0/8,11.0.0.0/8",
     [f'{DETECT}.ClusterCIDRs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: {PAIR}']),
    ("mode: nftables\nclusterCIDR: 10.0.0.0/8,fd00::/8,11.0.0.0/8",
     [f'{DETECT}.ClusterCIDRs: Invalid value: ["10.0.0.0/8","fd00::/8","11.0.0.0/8"]: {PAIR}']),
    ("mode: nftables\nclusterCIDR: 10.0.0.0,fd00::/8",
     [f'{DETECT}.ClusterCIDRs[0]: Invalid value: "10.0.0.0": {BLOCK}']),
    ("mode: nftables\nlogging: {flushFrequency: -1s}",
     ['logging.flushFrequency: Invalid value: "-1s": Must be greater than zero']),
    ("mode: nftables\nlogging: {format: xml}",
     ['logging.format: Invalid value: "xml": Unsupported log format']),
]  # fmt: skip

VALID = [
    "mode: nftables",
    "mode: ipvs\nnftables: {masqueradeBit: 99}",
    "mode: iptables\nipvs: {tcpTimeout: -1s}",
    "mode: nftables\nnodePortAddresses: [primary]",
    "mode: nftables\nnodePortAddresses: [010.001.0.0/16, fd00::1/64]\nclusterCIDR: 10.0.0.0/8,fd00::/8",
    "mode: nftables\ndetectLocalMode: BridgeInterface\nclusterCIDR: nonsense\ndetectLocal: {bridgeInterface: br0}",
    'mode: nftables\nbindAddress: "::"\nhealthzBindAddress: 10.0.0.1\nmetricsBindAddress: "::1"',
    "mode: nftables\nconntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}\niptables: {masqueradeBit: 0}",
    "mode: nftables\nlogging: {format: json, verbosity: 4, flushFrequency: 2s}",
]
