"""What only a GPU can show; without one these are skipped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import TORCHRUN, make_image, run_python, tiny_net, train_options, write_yaml

from iarn_basicsr import Rescaler
from iarn_basicsr.archs.iarn import IARN

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b)**2))))


@pytest.mark.parametrize('options', [{}, {'split': 'area'}, {'split': 'cubic_interp'}, {'coupling': 'hr_grid'}])
def test_exact_inverse_in_float64(options):
    net = tiny_net(std=0.1, num_block=2, **options).double().cuda()
    hr = torch.rand(2, 3, 53, 71, dtype=torch.float64, device='cuda')
    down = net.downscale(hr, (21, 40))
    low = None if down.low.shape[-2:] == (21, 40) else down.low
    assert (net.upscale(down.lr, (53, 71), down.latent, low) - hr).abs().max() < 1e-9
    same = net.cpu().downscale(hr.cpu(), (21, 40)).lr
    assert (down.lr.cpu() - same).abs().max() < 1e-10


@pytest.mark.parametrize('scale', [1.5, 2, (1.5, 3), 4])
def test_gpu_and_cpu_read_each_others_lr(scale):
    """The LR hides its detail in single grey levels: a GPU in less than float32 would misread that of a CPU."""
    image = make_image(240, 320, seed=3)[..., ::-1].copy()
    cpu, gpu = Rescaler.load(device='cpu'), Rescaler.load(device='cuda')
    there, here = gpu.downscale(image, scale), cpu.downscale(image, scale)
    assert (np.abs(there.astype(int) - here) <= 1).mean() >= 0.9999
    own = psnr(cpu.upscale(here, image.shape[:2]), image)
    for lr, reader in ((there, cpu), (here, gpu), (there, gpu)):
        assert psnr(reader.upscale(lr, image.shape[:2]), image) == pytest.approx(own, abs=0.02)


def test_tiled_equals_untiled():
    image = make_image(400, 520, seed=4)[..., ::-1].copy()
    net = Rescaler.load(device='cuda').net
    whole, tiled = (Rescaler(net, 'w', device='cuda', tile=t) for t in (10**6, 150))
    lr = whole.downscale(image, 2.5)
    for a, b in ((tiled.downscale(image, 2.5), lr), (tiled.upscale(lr, (400, 520)), whole.upscale(lr, (400, 520)))):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 2 and (difference <= 1).mean() >= 0.9999


@pytest.mark.parametrize('up', [False, True])
def test_a_full_gpu_halves_the_tile(up, monkeypatch):
    """Memory really runs out, by a limit on this process."""
    image = make_image(1500, 2000, seed=5)[..., ::-1].copy()
    net, emptied = IARN(num_block=2, width=16), []
    whole = Rescaler(net, 'n', device='cuda', tile=4096)
    lr = whole.downscale(image, 2)
    wanted = whole.upscale(lr, (1500, 2000)) if up else lr
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(500e6 / total)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda stock=torch.cuda.empty_cache: emptied.append(stock()))
    try:
        small = Rescaler(net, 'n', device='cuda', tile=4096)
        found = small.upscale(lr, (1500, 2000)) if up else small.downscale(image, 2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert emptied  # after each failure, before a smaller tile
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize('amp', ['bf16', 'none'])
@pytest.mark.parametrize('torchrun', [False, True])
def test_training_stops_and_goes_on(tmp_path, image_folder, amp, torchrun):
    """On one GPU, alone and under torchrun with NCCL; the resumed run ends where the whole one does."""
    options = train_options(image_folder('hr', [(48, 40), (33, 47)]))
    options['num_gpu'] = 'auto'
    options['train'].update(total_iter=6, amp=amp)
    options['logger']['save_checkpoint_freq'] = 3
    launcher = [*TORCHRUN[:-1], '--nproc_per_node=1'] if torchrun else []
    for name, iterations in (('run', 3), ('run', 6), ('whole', 6)):
        file = write_yaml({**options, 'name': name, 'train': {**options['train'], 'total_iter': iterations}},
                          tmp_path / 'train.yml')
        done = run_python(*launcher, '-m', 'iarn_basicsr.train', '-opt', file, '--auto_resume',
                          *(['--launcher', 'pytorch'] if torchrun else []), cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    resumed, whole = (torch.load(tmp_path / 'experiments' / name / 'models' / 'net_g_6.pth', weights_only=True)
                      for name in ('run', 'whole'))
    for key, value in whole['params_ema'].items():
        assert torch.allclose(resumed['params_ema'][key], value, atol=2e-4 if amp == 'bf16' else 2e-5), key
