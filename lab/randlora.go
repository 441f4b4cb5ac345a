package lab

// randlora is the experiment of RandLoRA (Albert et al. 2025): fixed random products
// with trained diagonals, at as many trained entries as LoRA, shall end lower on held-out
// text than LoRA and VeRA, and so narrow the gap to full fine-tuning, with no more
// optimizer state than LoRA. VeRA cannot train as many entries; it has PEFT's rank. The
// rank of the update stands among the further figures; sparse bases are a further arm.
// The paper's vision-language tasks, where the gap closes most, are out of reach here.
func randlora() Experiment {
	// N·(r + m) entries with N = m/r: a smaller rank trains more, and 8 comes nearest to
	// LoRA's number at rank 8.
	const rank = 8
	return Experiment{
		Slug:   "randlora",
		Claim:  "Sums of fixed random products with trained diagonals give updates of full rank at LoRA's size, which end better than low-rank ones.",
		Figure: opticksLoss,
		Arms: append(arms(
			tuneArm{"randlora", Method, "randlora", rank},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"vera", Baseline, "vera", 256},
			tuneArm{"full", Baseline, "full", 0},
		), textArms(
			tuneArm{"randlora, sparse bases", Method, "randlora entries=sparse", rank},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats("randlora", "lora"), Beats("randlora", "vera"),
			NotWorseIn(OfPeak(Optimizer), "randlora", "lora"),
		),
	}
}
