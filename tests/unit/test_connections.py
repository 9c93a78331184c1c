"""What a pod's kernel tells of its connections."""

from __future__ import annotations

from support.connections import Arrival, Connection, Edge, arrivals, connections, edges

TABLES = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001        0 1 1 0000000000000000 100 0
   1: 0500F40A:1F90 0100F40A:C350 01 00000000:00000000 00:00000000 00000000 10001        0 2 1 0000000000000000 20 4
   2: 0500F40A:C351 0A00600A:1628 01 00000000:00000000 02:00000000 00000000 10001        0 3 2 0000000000000000 20 4
   3: 0100007F:C352 0100007F:1F90 01 00000000:00000000 02:00000000 00000000 10001        0 4 2 0000000000000000 20 4
   4: 0500F40A:C353 08080808:01BB 06 00000000:00000000 02:00000000 00000000     0        0 0 3 0000000000000000
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 0000000000000000FFFF00000500F40A:C354 0000000000000000FFFF00000700F40A:1538 01 00000000:00000000 02:00000000
"""


def test_what_a_pod_has_opened_and_not_what_others_have() -> None:
    assert connections("agent", TABLES) == {
        Connection("agent", "10.96.0.10", 5672),
        Connection("agent", "8.8.8.8", 443),
        Connection("agent", "10.244.0.7", 5432),
    }


def test_what_others_have_opened_to_it() -> None:
    assert arrivals("agent", TABLES) == {Arrival("10.244.0.1", "agent", 8080)}


def test_what_arrived_is_the_pod_s_that_has_the_address() -> None:
    pods = [{"metadata": {"name": "check"}, "spec": {"containers": []}, "status": {"podIP": "10.244.0.7"}}]
    arrived = [Arrival("10.244.0.7", "rabbit", 5672), Arrival("10.244.0.1", "rabbit", 5672)]
    assert edges(set(), pods, [], arrived) == {Edge("check", "rabbit", 5672)}, "the other is the node"


def test_a_service_stands_for_its_pod_and_its_port_for_the_pod_s() -> None:
    ports = [{"name": "amqp", "containerPort": 5672}]
    pods = [
        {
            "metadata": {"name": "rabbit", "labels": {"app": "rabbit", "more": "1"}},
            "spec": {"containers": [{"ports": ports}]},
            "status": {"podIP": "10.244.0.9"},
        },
        {"metadata": {"name": "db"}, "spec": {"containers": []}, "status": {"podIP": "10.244.0.7"}},
    ]
    services = [
        {
            "spec": {
                "clusterIP": "10.96.0.10",
                "selector": {"app": "rabbit"},
                "ports": [{"port": 99, "targetPort": "amqp"}],
            }
        },
        {"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443, "targetPort": 6443}]}},
    ]
    found = {
        Connection("agent", "10.96.0.10", 99),
        Connection("agent", "10.244.0.7", 5432),
        Connection("agent", "10.96.0.1", 443),
    }
    assert edges(found, pods, services) == {
        Edge("agent", "rabbit", 5672),
        Edge("agent", "db", 5432),
        Edge("agent", None, 443),
    }
