"""A UNet of Stable Diffusion's kind with random weights, and how long diffusers + PEFT take for it on the CPU.

    python benches/diffusion.py unet small|full          writes a UNet
    python benches/diffusion.py measure UNET SIZE BATCH   a forward pass and a training step of LoRA, rank 4 on the attention

`cargo bench -p eigenmix-diffusion --bench diffusion -- UNET SIZE BATCH` measures the same of Eigenmix.
"""
import resource
import sys
import time

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
if sys.argv[1] == "unet":
    channels = {"small": (160, 320, 640, 640), "full": (320, 640, 1280, 1280)}[sys.argv[3]]
    unet = UNet2DConditionModel(sample_size=64, block_out_channels=channels, attention_head_dim=8, cross_attention_dim=768)
    print(sum(p.numel() for p in unet.parameters()) // 10**6, "million parameters")
    unet.save_pretrained(sys.argv[2])
else:
    size, batch = int(sys.argv[3]), int(sys.argv[4])
    unet = UNet2DConditionModel.from_pretrained(sys.argv[2])
    unet = get_peft_model(unet, LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False))
    inputs = torch.randn(batch, 4, size, size), torch.full((batch,), 400), torch.randn(batch, 77, 768)
    noise = torch.randn(batch, 4, size, size)

    def timed(run):
        run()
        times = []
        for _ in range(3):
            start = time.perf_counter(), time.process_time()
            run()
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        return "%.2f s, %.2f s of all processors" % sorted(times)[1]

    def forward():
        with torch.no_grad():
            unet(*inputs)

    def step():
        unet.zero_grad()
        ((unet(*inputs).sample - noise) ** 2).mean().backward()

    print(f"{torch.get_num_threads()} threads: forward {timed(forward)}; step {timed(step)}; "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")
