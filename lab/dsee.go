package lab

// dsee is the experiment of DSEE (Chen et al. 2021). A low-rank plus sparse update of a
// weight that is itself pruned shall end below full tuning with magnitude pruning, once
// and iteratively, at equal sparsity; and with a third of the heads and two fifths of
// the MLP channels removed it shall be no worse than LoRA, at fewer operations. The
// paper sorts sentences with BERT; here the bundled base learns a text, since labelled
// mails are not bundled. Operations of single entries count as saved although dense
// kernels do not skip them; with heads and channels a pass is shorter, and is timed. How
// many are saved is the settings' doing, and no part of the rule.
// Tuning trains as many entries as LoRA at rank 8, and 64 a layer more.
func dsee() Experiment {
	return Experiment{
		Slug:   "dsee",
		Claim:  "A low-rank plus sparse update of a pruned weight keeps LoRA's quality at three quarters of the operations, and beats tuning and pruning whole matrices.",
		Figure: opticksLoss,
		Arms: append(arms(
			tuneArm{"dsee, groups", Method, "dsee prune=groups", 8},
			tuneArm{"lora", Baseline, "lora", 8},
		), textArms(
			tuneArm{"dsee, entries", Method, "dsee", 8},
			tuneArm{"full, pruned by magnitude", Baseline, "magnitude", 0},
			tuneArm{"iterative magnitude pruning", Baseline, "magnitude rounds=5", 0},
		)...),
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			NotWorse("dsee, groups", "lora"),
			Beats("dsee, entries", "full, pruned by magnitude"), Beats("dsee, entries", "iterative magnitude pruning"),
		),
	}
}
