import cv2
import numpy as np

from jntrt.train.data.infrared import InfraredCamera

SCENE = cv2.resize(
    np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8),
    (400, 320),
    interpolation=cv2.INTER_NEAREST,
)


def shown(seed: int, frame: np.ndarray = SCENE, noise: int = 3) -> np.ndarray:
    return InfraredCamera(np.random.default_rng(seed)).shown(frame, np.random.default_rng(noise))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a[..., 0].ravel(), b[..., 0].ravel())[0, 1])


def test_colour_is_gone_and_the_mean_is_mid_grey():
    image = shown(7)
    assert (image.shape, image.dtype) == (SCENE.shape, np.uint8)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert abs(image.mean() - 128) < 3


def test_a_camera_stays_itself_and_its_noise_does_not():
    assert (shown(7) == shown(7)).all()
    same, other = likeness(shown(7), shown(7, noise=4)), likeness(shown(7), shown(8))
    assert 0.8 < same < 1
    assert other < 0.8 * same


def test_stripes_are_the_cameras_and_stand_still():
    flat = np.full_like(SCENE, 90)
    rows = [shown(7, flat, noise)[..., 0].mean(axis=0) for noise in (3, 4)]
    assert np.corrcoef(*rows)[0, 1] > 0.9
    assert shown(7, flat)[..., 0].mean(axis=1).std() < 0.5 * rows[0].std()


def test_what_is_fine_is_lost():
    fine = np.zeros_like(SCENE)
    fine[:, ::2] = 255
    assert shown(7, fine)[..., 0].std() < 12  # noise and stripes alone
    assert shown(7)[..., 0].std() > 12


def test_odd_and_tiny_frames_keep_their_size():
    for height, width in ((1, 1), (7, 5)):
        assert shown(7, SCENE[:height, :width]).shape == (height, width, 3)
