package lab

// ist is the experiment of IST (Yao et al. 2024): training the adapters of a quarter of
// the layers at each step, drawn by scores that are learnt on the way, shall end lower
// on held-out text than the same adapters trained on all layers and than layers drawn
// at random, and take less memory than the former. It is put on LoRA, Bone and PaCA.
// Rewards are exp(−loss), so that with losses of several nats, as here, the paper's rate
// moves the scores little.
// Memory is the ledger's joint peak over the steps of a llama of 100 million
// parameters: see [footprint]. The scores that the layers end with stand among the
// further figures.
func ist() Experiment {
	blocks := matchedRank(onlyOut)
	return Experiment{
		Slug:   "ist",
		Claim:  "Training the adapters of a few layers at each step, drawn by learnt importance, is better than training all of them and takes less memory, whatever the adapter.",
		Figure: opticksLoss,
		Arms: append(footprintArms(
			tuneArm{"ist over lora", Method, "ist over=lora", 8},
			tuneArm{"lora", Baseline, "lora", 8},
		), append(textArms(
			tuneArm{"random layers, lora", Baseline, "ist over=lora uniform=true", 8},
			tuneArm{"ist over bone", Method, "ist over=bone", blocks},
			tuneArm{"ist over paca", Method, "ist over=paca", blocks},
		), arms(
			tuneArm{"bone", Baseline, "bone", blocks},
			tuneArm{"paca", Baseline, "paca", blocks},
		)...)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats("ist over lora", "lora"), Beats("ist over lora", "random layers, lora"),
			Beats("ist over bone", "bone"), Beats("ist over paca", "paca"),
			BeatsIn(OfExtra(stepPeak), "ist over lora", "lora"),
		),
	}
}
