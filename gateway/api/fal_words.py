"""fal's arguments as a request of ours: both names of a picture, lengths as text, and what fal itself would not read.

Law: the client's habit is the contract. fal ignores what an endpoint has no field for, so nothing unknown is refused
here; but each thing that nothing came of is said, on the job and in its logs. What a client may count on (a field of
that endpoint at fal) is refused rather than dropped when it is wrong.

Fields and defaults, read 2026-11-23: fal's OpenAPI of kling-video v3 (September 2026) and fal-js commit 381105e
(2026-08-02). Kling's own guide says `image_url` and `aspect_ratio` where fal's schema of today says `start_image_url`
and lets the clip follow its picture: both names are taken, and a shape beside a picture is ignored, as fal does.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gateway.api import form, parts, wire
from gateway.api.fal_paths import Endpoint
from gateway.api.form import Asked, CreateForm, ProviderForm, ShotForm
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem
from gateway.catalogue.rows import AudioGrant
from gateway.catalogue.shapes import short_side
from providers.spec import Frozen, Mode

DIALECT = "fal"
DISABLE_FALLBACK = b"x-app-fal-disable-fallback"  # the vendor's own header against "another provider of this model"

_SOFT = ("negative_prompt", "seed", "cfg_scale")
_PICTURES = ("image_url", "start_image_url", "end_image_url", "tail_image_url", "image_urls", "elements")
_ELEMENT = re.compile(r"@Element(\d+)")

Pictures = Annotated[tuple[SentPicture, ...], Meta(max_length=16)]


class MultiPrompt(Frozen):
    prompt: form.Text
    duration: form.Length = 5


class Element(Frozen):
    """One subject, by pictures. (fal takes a video instead; nothing here does.)"""

    frontal_image_url: SentPicture | None = None
    reference_image_urls: Pictures = ()


class Arguments(Frozen):
    """The input of any of fal's video endpoints, as far as it has a meaning here. Unknown fields pass by."""

    prompt: form.Text | None = None
    negative_prompt: form.Text | None = None
    duration: form.Length | None = None
    aspect_ratio: form.Word | None = None
    resolution: form.Word | None = None
    generate_audio: bool | None = None
    image_url: SentPicture | None = None
    start_image_url: SentPicture | None = None
    end_image_url: SentPicture | None = None
    tail_image_url: SentPicture | None = None
    image_urls: Pictures = ()
    elements: Annotated[tuple[Element, ...], Meta(max_length=8)] = ()
    multi_prompt: Annotated[tuple[MultiPrompt, ...], Meta(max_length=32)] = ()
    shot_type: str | None = None
    seed: form.Whole | None = None
    cfg_scale: float | None = None
    provider: ProviderForm = ProviderForm()  # ours: how it is bought


_KNOWN = frozenset(field.name for field in msgspec.structs.fields(Arguments))


class Wishes(Frozen):
    """What is asked, and what is asked instead when nobody can do all of it."""

    asked: Asked
    else_asked: Asked | None = None


def understood(body: bytes, endpoint: Endpoint, *, callback_url: str | None = None, pinned: bool = False) -> Wishes:
    """The body of a submit in our own words. `pinned` keeps it at the vendor whose language this is. Raises Problem,
    with the client's own names for the fields."""
    raw = wire.decode(body, dict[str, Any])
    given = {name: value for name, value in raw.items() if value is not None and value != ""}  # an empty field is none
    arguments = wire.convert(given, Arguments, dec_hook=parts.picture)
    ignored = sorted(set(given) - _KNOWN)
    fields, start_name = _fields(arguments, endpoint, given, ignored)
    said = _said(ignored, fields.pop("said"))
    fields["callback_url"] = callback_url
    if pinned:
        provider = msgspec.structs.replace(arguments.provider, only=(DIALECT,))
        fields["provider"] = provider
    soft = [name for name in _SOFT if fields[name] is not None]
    counted = [name for name in soft if endpoint.grants(name)]
    spare = dict.fromkeys([name for name in soft if name not in counted])

    def asked(changes: dict[str, Any], *, lenient: bool, also: list[str]) -> Asked:
        provider = fields["provider"]
        if lenient:
            provider = msgspec.structs.replace(provider, require_parameters=False)
        made = CreateForm(**{**fields, **changes, "provider": provider})
        try:
            found = form.understood(made)
        except Problem as problem:
            raise renamed(problem, start_name=start_name) from problem
        return msgspec.structs.replace(
            found, dialect=DIALECT, endpoint=endpoint.path, ignored=(*said, *_said(also, []))
        )

    everything = asked({}, lenient=True, also=[])
    if not counted:
        return Wishes(asked=everything)
    return Wishes(asked=asked(spare, lenient=False, also=list(spare)), else_asked=everything)


def _fields(
    arguments: Arguments, endpoint: Endpoint, given: dict[str, Any], ignored: list[str]
) -> tuple[dict[str, Any], str]:
    """The fields of our own form, with sentences in `said`; what nothing came of is added to `ignored`. And the name
    of the start picture."""
    said: list[str] = []
    sent = _pictures(arguments, endpoint, given, ignored, said)
    aspect_ratio, resolution = arguments.aspect_ratio, arguments.resolution
    if aspect_ratio and sent.start is not None and any(row.follows_picture for row in endpoint.rows):
        said.append(f"aspect_ratio={aspect_ratio} was ignored: with a picture, the clip takes the picture's own shape")
        aspect_ratio = None
    offered = {short_side(word) for row in endpoint.rows for word in row.resolutions}
    if resolution and len(offered) == 1 and short_side(resolution) not in offered:
        said.append(f"resolution={resolution} was ignored: {endpoint.path} makes one resolution only")
        resolution = None
    audio = arguments.generate_audio
    if audio is None and _with_sound(endpoint):
        said.append("generate_audio was not given: the clip is made with sound, as fal makes it")
        audio = True
    if audio is not None and all(row.audio is AudioGrant.NEVER for row in endpoint.rows):
        ignored += ["generate_audio"] if audio else []
        audio = None
    shots = arguments.multi_prompt if any(row.shots for row in endpoint.rows) else ()
    if arguments.multi_prompt and not shots:
        ignored.append("multi_prompt")
    if shots and arguments.shot_type not in (None, "customize"):
        said.append(f"shot_type={arguments.shot_type[:40]} was ignored: shots are made as they are written")
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "prompt": sent.prompt,
        "negative_prompt": arguments.negative_prompt,
        "duration": _length(arguments.duration),
        "aspect_ratio": aspect_ratio,
        "resolution": resolution,
        "generate_audio": audio,
        "input_reference": sent.start,
        "frame_images": (form.FrameForm(image_url=sent.end, frame_type="last_frame"),) if sent.end else (),
        "input_references": sent.references,
        "shots": tuple(ShotForm(prompt=shot.prompt, duration=_length(shot.duration)) for shot in shots),
        "seed": arguments.seed,
        "cfg_scale": arguments.cfg_scale,
        "provider": arguments.provider,
        "said": said,
    }
    return fields, "start_image_url" if arguments.start_image_url else "image_url"


class Sent(NamedTuple):
    """The pictures that count at this endpoint, and the prompt that speaks of them."""

    prompt: str | None
    start: SentPicture | None
    end: SentPicture | None
    references: tuple[SentPicture, ...]


def _pictures(
    arguments: Arguments, endpoint: Endpoint, given: dict[str, Any], ignored: list[str], said: list[str]
) -> Sent:
    """By how the endpoint's clips begin. Raises Problem where it begins with a picture and there is none."""
    prompt, references = arguments.prompt, arguments.image_urls
    start = arguments.start_image_url or arguments.image_url
    end = arguments.end_image_url or arguments.tail_image_url
    if endpoint.mode is Mode.TEXT:
        ignored += [name for name in _PICTURES if name in given]
        return Sent(prompt, None, None, ())
    if arguments.start_image_url and arguments.image_url and given["start_image_url"] != given["image_url"]:
        ignored.append("image_url")
    if end is not None and not any(row.last_frame for row in endpoint.rows):
        ignored += [name for name in ("end_image_url", "tail_image_url") if name in given]
        end = None
    if endpoint.mode is Mode.FIRST_FRAME:
        ignored += [name for name in ("image_urls", "elements") if name in given]
        references = ()
        if start is None:
            raise _missing("image_url")
    elif arguments.elements:
        references, prompt = _with_elements(arguments, references, prompt, said)
    if endpoint.mode is Mode.REFERENCES and not references and start is None:
        raise _missing("image_urls")
    return Sent(prompt, start, end, references)


def _with_sound(endpoint: Endpoint) -> bool:
    """fal's Kling endpoints make sound unless told not to; an endpoint that only this dialect knows does as we do."""
    return endpoint.path.startswith("fal-ai/") and any(
        row.provider == DIALECT and row.audio is AudioGrant.OPTIONAL for row in endpoint.rows
    )


def _with_elements(
    arguments: Arguments, references: tuple[SentPicture, ...], prompt: str | None, said: list[str]
) -> tuple[tuple[SentPicture, ...], str | None]:
    """Elements as reference pictures: `@Element1` becomes the `@Image…` of its first picture."""
    places: dict[str, int] = {}
    for number, element in enumerate(arguments.elements, 1):
        pictures = (element.frontal_image_url, *element.reference_image_urls)
        found = tuple(picture for picture in pictures if picture is not None)
        if not found:
            said.append(f"elements[{number - 1}] was ignored: it holds no picture")
            continue
        places[str(number)] = len(references) + 1
        references += found
    if places:
        said.append("elements were handed over as reference pictures, and @Element in the prompt as their @Image")
    if prompt:
        prompt = _ELEMENT.sub(lambda found: f"@Image{places[found[1]]}" if found[1] in places else found[0], prompt)
    return references, prompt


def _length(value: form.Length | None) -> form.Length | None:
    """ "5s" is a length too: one of fal's clients (@ai-sdk/fal) writes it so."""
    return value.strip().removesuffix("s") if isinstance(value, str) else value


def _said(names: list[str], sentences: list[str]) -> tuple[str, ...]:
    listed = ", ".join(name[:60] for name in names[:20])
    first = (f"ignored, because nothing here has a use for it: {listed}",) if names else ()
    return (*first, *sentences)


def _missing(name: str) -> Problem:
    return Problem(
        422, "missing_field", f"{name!r} is missing: this endpoint begins a clip with a picture.", param=name
    )


# --- errors in the client's own names -------------------------------------------------------------------------------

_NAMES = {"seconds": "duration", "frame_images": "end_image_url", "shots": "multi_prompt", "size": "resolution"}
_NAMES |= {"input_references": "image_urls", "callback_url": "fal_webhook"}
_OURS = re.compile(
    r"\b(input_references|input_reference|frame_images|callback_url)\b|\bseconds(?==)|(?<=')(shots|seconds)\b"
)


def renamed(problem: Problem, *, start_name: str = "image_url") -> Problem:
    """The same refusal, with fal's names for what our own API calls otherwise."""
    names = {**_NAMES, "input_reference": start_name}

    def put(text: str) -> str:
        return _OURS.sub(lambda found: names[found[0]], text)

    param = problem.param
    if param:
        head, rest = re.match(r"([^.\[]*)(.*)", param, re.DOTALL).groups()  # type: ignore[union-attr]
        param = names.get(head, head) + rest.replace(".seconds", ".duration")
    return Problem(
        problem.status,
        problem.code,
        put(problem.message),
        param=param,
        nearest=put(problem.nearest) if problem.nearest else None,
        refusals=problem.refusals,
        headers=problem.headers,
    )
