"""Send a model's state dict to a worker, which loads it, trains, and sends its own back. Needs torch.

Prints::

    the worker loads: 5 tensors, torch.bfloat16, tied: True
    the server loads: <All keys matched successfully>
    the worker's step arrived: True
"""

from __future__ import annotations

import copy

from zdl import Cell, Request

try:
    import torch
    from torch import nn
except ImportError:
    raise SystemExit("this example needs torch: pip install 'zdl[torch]'") from None


class Model(nn.Module):
    """A model whose first and last weights are one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.middle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 1000)
        self.head.weight = self.embed.weight


def main() -> None:
    """Small tensors travel in the message, large ones by reference; both come out as tensors."""
    torch.manual_seed(7)
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("worker", parent=server.addresses[0]) as worker:

        @worker.handler("task", "train")
        def train(request: Request) -> object:
            state = request.body
            is_tied = state["embed.weight"] is state["head.weight"]
            print(f"the worker loads: {len(state)} tensors, {state['head.bias'].dtype}, tied: {is_tied}")
            model = Model().to(torch.bfloat16)
            model.load_state_dict(state)
            with torch.no_grad():
                model.head.bias.fill_(1.0)
            return model.state_dict()

        worker.wait_ready()
        model = Model().to(torch.bfloat16)
        before = copy.deepcopy(model.state_dict())
        reply = server.request("worker", "task", "train", model.state_dict(), timeout_s=60)
        print(f"the server loads: {model.load_state_dict(reply.body)}")
        is_new = torch.equal(model.head.bias, torch.ones(1000, dtype=torch.bfloat16))
        print(f"the worker's step arrived: {is_new and torch.equal(model.embed.weight, before['embed.weight'])}")


if __name__ == "__main__":
    main()
