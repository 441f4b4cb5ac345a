package lab

// s2ft is the experiment of S²FT (Yang et al. 2024). Quality is the tune test, at as
// many trained entries as LoRA, with heads and channels chosen at random, as the paper
// prefers, and by what else can be told of them. Time and memory are those of a
// training step of a llama of 100 million parameters: see [footprint]. The gain on
// domains outside the training text shows in the source domain's loss.
func s2ft() Experiment {
	return Experiment{
		Slug:   "s2ft",
		Claim:  "Training a few heads and channels as dense slices is better than LoRA, takes less time and memory than it and than full fine-tuning, and keeps more than full fine-tuning.",
		Figure: opticksLoss,
		Arms: append(footprintArms(
			tuneArm{"s2ft", Method, "s2ft", 8},
			tuneArm{"lora", Baseline, "lora", 8},
			tuneArm{"full", Baseline, "full", 0},
		), textArms( // whose steps are the first's
			tuneArm{"s2ft, by weight", Method, "s2ft choice=weight", 8},
			tuneArm{"s2ft, by activation", Method, "s2ft choice=activation", 8},
			tuneArm{"s2ft, by product", Method, "s2ft choice=product", 8},
			tuneArm{"s2ft, by gradient", Method, "s2ft choice=gradient", 8},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats("s2ft", "lora"), BeatsIn(OfExtra(sourceLoss), "s2ft", "full"),
			BeatsIn(OfExtra(stepSeconds), "s2ft", "lora"), BeatsIn(OfExtra(stepPeak), "s2ft", "lora"),
			BeatsIn(OfExtra(stepSeconds), "s2ft", "full"), BeatsIn(OfExtra(stepPeak), "s2ft", "full"),
		),
	}
}
