package lab

import "tare/lab/tuning"

// randlora is the experiment of RandLoRA (Albert et al. 2025): fixed random products
// with trained diagonals, at as many trained entries as LoRA, shall end lower on held-out
// text than LoRA and VeRA, and so narrow the gap to full fine-tuning, with no more
// optimizer state than LoRA; and a vision transformer that knows five digits shall learn
// the other five better with it than with LoRA. VeRA cannot train as many entries; it has
// PEFT's rank. The rank of the update stands among the further figures; sparse bases are
// a further arm. The paper's models of images and language, where the gap closes most,
// are out of reach here.
func randlora() Experiment {
	// N·(r + m) entries with N = m/r: a smaller rank trains more, and 8 comes nearest to
	// LoRA's number at rank 8.
	const rank = 8
	x := Experiment{
		Slug:   "randlora",
		Claim:  "Sums of fixed random products with trained diagonals give updates of full rank at LoRA's size, which end better than low-rank ones.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(
			Beats("randlora", "lora"), Beats("randlora", "vera"),
			BeatsIn(OfExtra(digitAccuracy), "randlora", "lora"),
			NotWorseIn(OfPeak(Optimizer), "randlora", "lora"),
		),
	}
	for _, a := range []tuneArm{
		{"randlora", Method, "randlora", rank},
		{"lora", Baseline, "lora", 8},
		{"vera", Baseline, "vera", 256},
		{"full", Baseline, tuning.Full, 0},
	} {
		image := a
		if a.name == "lora" {
			image.rank = 3 // on its matrices, exactly RandLoRA's number
		}
		x.Arms = append(x.Arms, a.with(transformerDigits.part(image)))
	}
	x.Arms = append(x.Arms, textArms(tuneArm{"randlora, sparse bases", Method, "randlora entries=sparse", rank})...)
	return x
}
