package lab

import "tare/lab/tuning"

// flora is the experiment of FLoRA (Si et al. 2024): a change that keeps a kernel's
// dimensions apart, as a core with a factor for each, shall be better than LoRA, which
// flattens the kernel, at about as many trained entries: on convolutions, where a small
// residual network that knows five digits learns the other five from few images, and on
// linear layers, in the tune test. The core adds 2 % of entries to LoRA's there, and 3 %
// on the convolutions. The scales are the defaults, 0.04 and 4; the paper tunes them for each
// model, so that LoRA's scale of 2 on linear layers is a further arm, as is full
// fine-tuning. On convolutions both have the same scale. The paper's models of images, and
// of images and language, are out of reach here.
func flora() Experiment {
	x := Experiment{
		Slug:   "flora",
		Claim:  "A core with a factor for each dimension of the kernel tunes convolutions and linear layers better than LoRA, which flattens them, at the same number of trained entries.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(BeatsIn(OfExtra(digitAccuracy), "flora", "lora"), Beats("flora", "lora")),
	}
	for _, a := range floraDigitArms {
		text := a
		if a.name == "lora" {
			text.rank = 8
		}
		x.Arms = append(x.Arms, text.with(residualDigits.part(a)))
	}
	x.Arms = append(x.Arms, textArms(tuneArm{"flora, LoRA's scale", Method, "flora scale=2", 8})...)
	return x
}

// floraDigitArms are the arms on the convolutions, where LoRA of rank 4 comes nearest to
// FLoRA of rank 8 in trained entries.
var floraDigitArms = []tuneArm{
	{"flora", Method, "flora", 8},
	{"lora", Baseline, "lora", 4},
	{"full", Baseline, tuning.Full, 0},
}
