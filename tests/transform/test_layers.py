import threading

import pytest
import torch
from torch import nn

from transform.layers import Placed


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(4)).eval()


def test_where_memory_is_short_a_copy_takes_over(caplog):
    net, x = network(), torch.rand(1, 2, 5, 5)
    placed, used = Placed(net, device="cpu"), []

    def work(given, device):
        used.append(given)
        if len(used) == 1:
            raise torch.OutOfMemoryError("no room")
        return given(x.to(device))

    assert torch.equal(placed.run(work), net(x))
    assert torch.equal(placed.run(work), net(x))
    first, second, third = used
    assert first is net
    assert second is third is not net  # it is tried once, not every time
    assert caplog.text.count("short of memory") == 1
    assert second[0].weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for tensor in (*second.parameters(), *second.buffers()):
            tensor.zero_()
    assert net[0].weight.any()  # what others work with is as it was
    assert net[1].running_var.any()


def test_others_go_on_with_what_they_have():
    placed, started, short = Placed(network(), device="cpu"), threading.Event(), threading.Event()
    x, found = torch.rand(1, 2, 5, 5), []

    def slow(net, device):
        before = net(x)
        started.set()
        assert short.wait(60)
        found.append(torch.equal(net(x), before))

    other = threading.Thread(target=placed.run, args=(slow,))
    other.start()
    assert started.wait(60)
    refused = iter([True, False])

    def work(net, device):
        if next(refused):
            raise torch.OutOfMemoryError("no room")

    placed.run(work)
    short.set()
    other.join(60)
    assert found == [True]


def test_where_the_processor_has_no_room_either_it_is_the_callers_error():
    def never(net, device):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        Placed(network(), device="cpu").run(never)
