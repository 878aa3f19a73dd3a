"""Make the `mocap_actions` data set (twelve actions of people, filmed as stick figures) and write it as three parquet
files.

    pip download --no-deps pybullet==3.2.7 && unzip -j pybullet-3.2.7-*.whl "pybullet_data/data/motions/humanoid3d_*" -d
    motions python -m mubench.tasks.video.makers.mocap_actions --motions motions --out tasks/video/data

No user of mubench needs this module: the files it writes are in the package. Motions are captured from people, in the
format of DeepMimic (Peng et al. 2018): a frame is its duration, the place of the root and the rotation of every joint.
A clip is eight moments of about a second of one motion, seen by a camera that follows the figure along the floor. Each
pixel shows one part of the body at one of three strengths, so sixteen colours suffice and a clip is a small picture.
"""

import argparse
import hashlib
import io
import json
from pathlib import Path

import numpy as np

ACTIONS = {
    "walk": ["walk"],
    "run": ["run"],
    "jump": ["jump"],
    "kick": ["kick"],
    "punch": ["punch"],
    "spin kick": ["spinkick"],
    "roll": ["roll"],
    "crawl": ["crawl"],
    "cartwheel": ["cartwheel"],
    "backflip": ["backflip"],
    "dance": ["dance_a", "dance_b"],
    "get up": ["getup_facedown", "getup_faceup"],
}
ROWS = {"train": 2400, "test": 480, "transfer": 240}
FRAMES, SIDE, METRES = 8, 32, 2.3  # of a clip; pixels of a frame; what it shows of the world
SECONDS = (0.9, 1.4)  # of motion in a clip
TILT = {"train": (-5, 15), "test": (-5, 15), "transfer": (20, 35)}  # of the camera, in degrees: above 0 it looks down
TURN = 60  # the camera is this far off a side view at most, in degrees
SEED = 0

TORSO, RIGHT_ARM, LEFT_ARM, RIGHT_LEG, LEFT_LEG = range(5)
STRENGTHS = 3
# joint, its parent, its place there in metres (forward, up, right), numbers of its rotation, part and radius of the
# bone
BODY = (
    ("root", None, (0, 0, 0), 4, TORSO, 0.09),
    ("chest", "root", (0, 0.236, 0), 4, TORSO, 0.09),
    ("neck", "chest", (0, 0.224, 0), 4, TORSO, 0.09),
    *(
        (
            f"{side} {joint}",
            parent if parent in ("root", "chest") else f"{side} {parent}",
            (x, y, z * sign),
            numbers,
            part,
            radius,
        )
        for side, sign, leg, arm in (("right", 1, RIGHT_LEG, RIGHT_ARM), ("left", -1, LEFT_LEG, LEFT_ARM))
        for joint, parent, (x, y, z), numbers, part, radius in (
            ("hip", "root", (0, 0, 0.085), 4, TORSO, 0.07),
            ("knee", "hip", (0, -0.422, 0), 1, leg, 0.07),
            ("ankle", "knee", (0, -0.410, 0), 4, leg, 0.055),
            ("shoulder", "chest", (-0.024, 0.244, 0.183), 4, TORSO, 0.06),
            ("elbow", "shoulder", (0, -0.275, 0), 1, arm, 0.05),
            ("wrist", "elbow", (0, -0.259, 0), 0, arm, 0.045),
            ("toe", "ankle", (0.14, -0.04, 0), 0, leg, 0.045),
        )
    ),
    ("head", "neck", (0, 0.18, 0), 0, TORSO, 0.11),
)
PARTS, RADII = (np.array(column) for column in list(zip(*BODY, strict=True))[4:])
BONES = [(i, [b[0] for b in BODY].index(parent or "root")) for i, (_, parent, *_) in enumerate(BODY)]


def load(path):
    """One motion: times of its frames, its joints [T, J, 3] relative to the root on the floor, and whether it is a
    cycle.
    """
    from scipy.spatial.transform import Rotation

    motion = json.loads(Path(path).read_text(encoding="utf-8"))
    frames = np.array(motion["Frames"])
    numbers, rotations, places = iter(frames[:, 4:].T), {}, {}
    for name, parent, offset, count, *_ in BODY:
        places[name] = places[parent] + rotations[parent].apply(offset) if parent else frames[:, 1:4] * (0, 1, 0)
        if count:
            own = [next(numbers) for _ in range(count)]
            own = (
                Rotation.from_quat(np.stack(own[1:] + own[:1], 1))
                if count == 4
                else Rotation.from_rotvec(own[0][:, None] * (0, 0, 1))
            )
            rotations[name] = rotations[parent] * own if parent else own
    return np.cumsum(frames[:, 0]) - frames[:, 0], np.stack(list(places.values()), 1), motion["Loop"] == "wrap"


def pose(motion, times):
    """The joints at some times, between two frames in proportion; a cycle goes on after its end."""
    own, joints, cyclic = motion
    period = own[-1]  # the last frame is the first again
    columns = joints.reshape(len(joints), -1).T
    moments = times % period if cyclic else times
    return np.stack([np.interp(moments, own, column) for column in columns], 1).reshape(len(times), *joints.shape[1:])


def film(motion, tilt, rng):
    """A clip as numbers of colours [FRAMES, SIDE, SIDE]: 0 for the background, then STRENGTHS for each part."""
    own, _, cyclic = motion
    seconds = rng.uniform(*SECONDS)
    seconds = seconds if cyclic else min(seconds, own[-1])
    start = rng.uniform(0, own[-1] if cyclic else own[-1] - seconds)
    joints = pose(motion, start + np.linspace(0, seconds, FRAMES))
    turn = np.radians(rng.uniform(-TURN, TURN)) + np.pi * rng.integers(2)  # from the right or from the left
    tilt, size = np.radians(rng.uniform(*tilt)), rng.uniform(0.85, 1.1) * SIDE / METRES
    across = np.array([np.cos(turn), 0, np.sin(turn)])
    away = np.array([-np.sin(turn), 0, np.cos(turn)])
    up = np.array([0, np.cos(tilt), 0]) + np.sin(tilt) * away
    away = np.cos(tilt) * away - np.array([0, np.sin(tilt), 0])
    x = SIDE * rng.uniform(0.45, 0.55) + size * joints @ across
    y = SIDE * rng.uniform(0.88, 0.95) - size * joints @ up
    return draw(np.stack([x, y], -1), joints @ away, size * rng.uniform(0.85, 1.15) * RADII)


def draw(points, depth, radii):
    """Bones are rods with round ends; where they overlap, the strongest is seen, the nearest of equals."""
    child, parent = np.array(BONES).T
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1) + 0.5
    start, end = (points[:, chosen, None, None] for chosen in (parent, child))
    rod, offset = end - start, grid - start
    along = ((offset * rod).sum(-1) / (rod * rod).sum(-1).clip(1e-9)).clip(0, 1)
    distance = np.linalg.norm(offset - along[..., None] * rod, axis=-1)
    strength = np.rint(STRENGTHS * (radii[:, None, None] - distance + 0.5).clip(0, 1)).astype(int)
    nearest = (strength - 0.1 * (depth[:, child] + depth[:, parent])[..., None, None]).argmax(1)  # depth is below 2.5 m
    seen = np.take_along_axis(strength, nearest[:, None], 1)[:, 0]
    return np.where(seen, STRENGTHS * PARTS[nearest] + seen, 0).astype(np.uint8)


def colours(split, rng):
    """A palette: bright figures on dark ground, each part of a colour of its own, in the transfer set all of the
    same.
    """
    ground, parts = rng.uniform(0, 0.25, 3), rng.uniform(0.4, 1, (5, 3))
    if split == "transfer":
        parts[:] = parts[0]
    shades = [ground + (part - ground) * strength / STRENGTHS for part in parts for strength in range(1, STRENGTHS + 1)]
    return np.rint(255 * np.array([ground, *shades])).astype(np.uint8)


def encode(clip, palette):
    """PNG of the frames side by side, four bits a pixel."""
    from PIL import Image

    strip = Image.fromarray(np.concatenate(list(clip), 1), mode="P")
    strip.putpalette(palette.tobytes())
    pictures = []
    for kind in range(4):
        out = io.BytesIO()
        strip.save(out, "PNG", bits=4, compress_level=9, compress_type=kind)
        pictures.append(out.getvalue())
    return min(pictures, key=len)


def render(folder):
    """{split: list of (action, motion, bytes)} in shuffled order, the actions balanced; no two clips have the same
    shapes.
    """
    rng, seen, splits = np.random.default_rng(SEED), set(), {}
    motions = {name: load(Path(folder) / f"humanoid3d_{name}.txt") for names in ACTIONS.values() for name in names}
    for split, count in ROWS.items():
        rows = []
        while len(rows) < count:
            action = list(ACTIONS)[len(rows) % len(ACTIONS)]
            name = str(rng.choice(ACTIONS[action]))
            clip = film(motions[name], TILT[split], rng)
            if clip.tobytes() not in seen:
                seen.add(clip.tobytes())
                rows.append((action, name, encode(clip, colours(split, rng))))
        splits[split] = [rows[i] for i in rng.permutation(count)]
    return splits


def write(splits, out):
    """Parquet that `datasets` reads with its Image and ClassLabel features."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Image, Value

    label = ClassLabel(names=list(ACTIONS))
    features = Features({"video": Image(mode="RGB"), "label": label, "motion": Value("string")})
    for split, rows in splits.items():
        columns = {
            "video": [{"bytes": strip, "path": None} for *_, strip in rows],
            "label": [label.str2int(action) for action, *_ in rows],
            "motion": [motion for _, motion, _ in rows],
        }
        path = Path(out) / f"mocap_actions-{split}.parquet"
        pq.write_table(pa.table(columns, schema=features.arrow_schema), path, compression="zstd", compression_level=19)
        print(
            f"{path.name}: {len(rows)} clips, {path.stat().st_size} bytes, sha256"
            f" {hashlib.sha256(path.read_bytes()).hexdigest()}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--motions", required=True, help="folder of the files humanoid3d_*.txt")
    parser.add_argument("--out", required=True, help="folder for the three files")
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    write(render(arguments.motions), arguments.out)
