"""Heads: scores of all actions, and the return that is still to come.

Legend: B decisions to take, A actions, C context, F choice columns, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from remora.envs.actions import NUM_ACTIONS
from remora.envs.arrays import CHOICE_COLUMNS, STATE_COLUMNS

__all__ = ["CHOICES_LENGTH", "STATE_LENGTH", "ActionHead", "ValueHead"]

CHOICES_LENGTH = NUM_ACTIONS * len(CHOICE_COLUMNS)
STATE_LENGTH = len(STATE_COLUMNS)

PHASES = tuple(place for place, name in enumerate(STATE_COLUMNS) if name.startswith("phase_"))
"""State columns that tell the phase, one of which is 1."""

FIRST_PREFERENCES = {"outlook": -20.0, "compute": -2.0, "copies": -0.5, "headroom": 0.2}
"""Untrained weights of choice columns; 1 % of a step more compute is e^2 times less likely."""


class ActionHead(nn.Module):
    """Scores every action from the context, from what it means in its phase, and where it leads.

    A linear score of where it leads is added, so that an untrained network already prefers what
    costs least at once; training finds out where that is short-sighted.

    Args:
        context: length C of a context, which ends in state and choices.
        width: hidden width H.
    """

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(context, width), nn.Tanh(), nn.Linear(width, width))
        self.meaning = nn.Parameter(torch.empty(len(PHASES), NUM_ACTIONS, width))
        nn.init.normal_(self.meaning, std=0.5)
        self.choice = nn.Linear(len(CHOICE_COLUMNS), width, bias=False)
        self.score = nn.Linear(width, 1)
        # Near-uniform at first: the masks already hold what must not be done.
        nn.init.normal_(self.score.weight, std=0.01)
        self.outlook = nn.Linear(len(CHOICE_COLUMNS), 1, bias=False)
        with torch.no_grad():
            weights = [FIRST_PREFERENCES.get(name, 0.0) for name in CHOICE_COLUMNS]
            self.outlook.weight.copy_(torch.tensor([weights]))

    def forward(self, context: Tensor) -> Tensor:
        """Score actions, masked ones too.  # [B, C] -> [B, A]."""
        batch = len(context)
        choices = context[:, -CHOICES_LENGTH:].reshape(batch, NUM_ACTIONS, -1)
        state = context[:, -CHOICES_LENGTH - STATE_LENGTH : -CHOICES_LENGTH]
        meaning = (state[:, PHASES] @ self.meaning.flatten(1)).view(batch, NUM_ACTIONS, -1)
        hidden = torch.relu(self.context(context)[:, None] + meaning + self.choice(choices))
        scores: Tensor = self.score(hidden) + self.outlook(choices)
        return scores.squeeze(2)


class ValueHead(nn.Module):
    """Predicts the rest of the return.

    Args:
        context: length C of a context.
        width: hidden width H.
    """

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(context, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 1),
        )

    def forward(self, context: Tensor) -> Tensor:
        """Predict the return from here on.  # [B, C] -> [B, 1]."""
        value: Tensor = self.layers(context)
        return value
