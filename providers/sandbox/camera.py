"""Camera moves: which one a prompt names, and where the camera stands at each moment of it.

Law: pure. Lengths are fractions of the frame (1 is its width, or its height for y); x grows to the right, y downwards.
A picture stands at distance 1 from the camera; a far layer is at more, a near one at less (see `view`).
"""

from __future__ import annotations

import math
import re

from providers.spec import Camera, Frozen


class Pose(Frozen):
    """Where the camera is and how it looks.

    `pan`, `tilt` turn it (every layer moves alike), `x` and `push` carry it sideways and forwards (near layers move
    more), `zoom` lengthens the lens, `yaw` (radians) is how far it has gone round a flat picture.
    """

    zoom: float = 1.0
    pan: float = 0.0
    tilt: float = 0.0
    x: float = 0.0
    push: float = 0.0
    yaw: float = 0.0


class View(Frozen):
    """What a pose makes of one layer: how much it is enlarged, and which point of it stands in the frame's middle."""

    scale: float
    x: float
    y: float


def view(pose: Pose, distance: float) -> View:
    """The layer at `distance` as `pose` sees it: the pinhole camera's rule for planes that face it."""
    scale = pose.zoom * distance / (distance - pose.push)
    return View(scale=scale, x=pose.pan + pose.x / distance, y=pose.tilt)


# --- which move -------------------------------------------------------------------------------------------------------

_GAP = r"(?:\W+\w+){0,3}?\W+"  # "pans slowly to the left"
_PAN = r"(?<!frying )(?<!sauce )\bpan(?:s|ning)?\b"
_DOLLY = r"\b(?:doll(?:y|ies|ying)|truck(?:s|ing)|track(?:s|ing))\b"
_ROUND = r"\b(?:orbit(?:s|ing)?|arc(?:s|ing)?|circl(?:es|ing))\b"

# The earliest match in the text wins; at the same place, the earlier row. A move without a direction takes a usual one.
_WORDS: tuple[tuple[Camera, str], ...] = (
    (
        Camera.STATIC,
        r"\b(?:static|locked[- ]off|tripod|motionless|fixed) (?:shot|camera|frame)\b|\bstatic\b|\btripod\b",
    ),
    (Camera.PAN_LEFT, _PAN + _GAP + r"left\b"),
    (Camera.PAN_RIGHT, _PAN),
    (Camera.TILT_DOWN, r"\btilt(?:s|ing)?\b" + _GAP + r"down(?:wards?)?\b"),
    (Camera.TILT_UP, r"\btilt(?:s|ing)?\b"),
    (Camera.ZOOM_OUT, r"\bzoom(?:s|ing)?\b" + _GAP + r"out\b"),
    (Camera.ZOOM_IN, r"\bzoom(?:s|ing)?\b"),
    (Camera.ORBIT_LEFT, _ROUND + _GAP + r"left\b"),
    (Camera.ORBIT_RIGHT, _ROUND),
    (Camera.DOLLY_LEFT, _DOLLY + _GAP + r"left\b"),
    (Camera.DOLLY_RIGHT, _DOLLY + _GAP + r"right\b"),
    (Camera.PULL_OUT, _DOLLY + _GAP + r"(?:out|back|backwards?|away)\b"),
    (Camera.PULL_OUT, r"\bpull(?:s|ing)?(?:\W+\w+){0,2}?\W+(?:out|back|away)\b"),
    (Camera.PUSH_IN, _DOLLY),
    (Camera.PUSH_IN, r"\bpush(?:es|ing)?[- ]in\b"),
)
_MOVES = tuple((camera, re.compile(words)) for camera, words in _WORDS)


def named(text: str) -> Camera | None:
    """The move that a prompt names first; None when it names none."""
    text = text.lower()
    found = [
        (match.start(), row, camera) for row, (camera, words) in enumerate(_MOVES) if (match := words.search(text))
    ]
    return min(found)[2] if found else None


# --- the move itself --------------------------------------------------------------------------------------------------

_SIDE = 0.09  # how far a pan goes to each side of the middle, in a 5 s shot
_PUSH = 0.13
_ZOOM = 1.3
_YAW = math.radians(9)


def _room(side: float) -> float:
    """The zoom at which a picture still fills the frame when its middle is `side` away from the frame's."""
    return 1 / (1 - 2 * side)


def path(camera: Camera, seconds: float) -> tuple[Pose, Pose]:
    """The poses at a shot's start and end. A longer shot goes further, but not as much further as it is longer."""
    reach = min(1.5, max(0.6, math.sqrt(seconds / 5)))
    side = _SIDE * reach
    rest = Pose()
    match camera:
        case Camera.STATIC:
            return rest, rest
        case Camera.PUSH_IN:
            return rest, Pose(push=_PUSH * reach)
        case Camera.ZOOM_IN:
            return rest, Pose(zoom=_ZOOM**reach)
        case Camera.PAN_RIGHT:
            return Pose(zoom=_room(side), pan=-side), Pose(zoom=_room(side), pan=side)
        case Camera.TILT_DOWN:
            return Pose(zoom=_room(side), tilt=-side), Pose(zoom=_room(side), tilt=side)
        case Camera.DOLLY_RIGHT:
            return Pose(zoom=_room(side), x=-side), Pose(zoom=_room(side), x=side)
        case Camera.ORBIT_RIGHT:
            # going right while turning left keeps what is at distance 1 in the middle
            yaw, x, zoom = _YAW * reach, 0.7 * side, 1.16
            return Pose(zoom=zoom, x=-x, pan=x, yaw=-yaw), Pose(zoom=zoom, x=x, pan=-x, yaw=yaw)
    start, end = path(_REVERSE[camera], seconds)
    return end, start


_REVERSE = {
    Camera.PULL_OUT: Camera.PUSH_IN,
    Camera.ZOOM_OUT: Camera.ZOOM_IN,
    Camera.PAN_LEFT: Camera.PAN_RIGHT,
    Camera.TILT_UP: Camera.TILT_DOWN,
    Camera.DOLLY_LEFT: Camera.DOLLY_RIGHT,
    Camera.ORBIT_LEFT: Camera.ORBIT_RIGHT,
}


def ease(t: float) -> float:
    """0 → 1 with a soft start and stop that never quite stands still, as an operator's hand would."""
    return 0.3 * t + 0.7 * t * t * (3 - 2 * t)


def between(start: Pose, end: Pose, t: float) -> Pose:
    """The pose at `t` in 0…1. The lens is eased by ratio, so that a zoom seems to go at one speed."""

    def mix(a: float, b: float) -> float:
        return a + (b - a) * eased

    eased = ease(t)
    return Pose(
        zoom=start.zoom * (end.zoom / start.zoom) ** eased,
        pan=mix(start.pan, end.pan),
        tilt=mix(start.tilt, end.tilt),
        x=mix(start.x, end.x),
        push=mix(start.push, end.push),
        yaw=mix(start.yaw, end.yaw),
    )
