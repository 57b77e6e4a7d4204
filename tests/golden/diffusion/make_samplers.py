"""Samplers of diffusers on a toy model: samplers.json.

    python make_samplers.py

Made with diffusers 0.42.1, torch 2.15. The model's output is 0.6 * sample * cos(t / 700) + 0.3 * sin(t / 90) + 0.2 * i
for the value i of the sample, so that every step depends on the time and on the sample.
"""
import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

BASE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SD = dict(**BASE, steps_offset=1, clip_sample=False, set_alpha_to_one=False)
CASES = [
    ("dpm-solver", 6, SD),
    ("dpm-solver", 20, SD),
    ("dpm-solver", 1, SD),
    ("dpm-solver", 5, dict(SD, timestep_spacing="leading")),
    ("dpm-solver", 7, dict(SD, timestep_spacing="trailing", prediction_type="v_prediction")),
    ("dpm-solver", 8, dict(SD, use_karras_sigmas=True)),
    ("dpm-solver", 6, dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")),
    ("euler", 6, dict(SD, use_karras_sigmas=True)),
    ("euler", 7, dict(SD, timestep_spacing="trailing", prediction_type="v_prediction")),
    ("euler", 5, dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")),
    ("ddim", 6, dict(BASE)),
    ("ddim", 7, dict(SD, timestep_spacing="trailing")),
    ("ddim", 5, dict(SD, timestep_spacing="linspace", prediction_type="v_prediction")),
    ("ddim", 6, dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")),
    ("ddim", 4, dict(beta_schedule="linear")),
    ("ddim", 4, dict(beta_schedule="squaredcos_cap_v2")),
]
CLASSES = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpm-solver": DPMSolverMultistepScheduler}

found = []
for kind, steps, config in CASES:
    scheduler = CLASSES[kind].from_config(config)
    scheduler.set_timesteps(steps)
    index = torch.arange(4, dtype=torch.float32).reshape(1, 1, 2, 2)
    sample = (0.7 * index - 0.9) * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        model_input = scheduler.scale_model_input(sample, time)
        output = 0.6 * model_input * torch.cos(time / 700) + 0.3 * torch.sin(time / 90) + 0.2 * index
        sample = scheduler.step(output, time, sample).prev_sample
    found.append(dict(kind=kind, steps=steps, config=config, timesteps=[float(time) for time in scheduler.timesteps],
                      initial_scale=float(scheduler.init_noise_sigma), sample=[float(value) for value in sample.flatten()]))
(Path(__file__).parent / "samplers.json").write_text(json.dumps(found, indent=1) + "\n")
