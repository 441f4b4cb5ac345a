package lab

import "context"

// paca is the experiment of PaCA (Woo et al. 2025). Quality is the tune test, at as
// many trained entries as LoRA. Time and memory are those of a training step of a
// llama of 100 million parameters with sequences of 512, every method at the same
// rank, the arms in turn: see [footprint].
func paca() Experiment {
	x := Experiment{
		Slug:   "paca",
		Claim:  "PaCA takes less time and less memory than LoRA at the same rank, at comparable quality.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(
			NotWorse("paca", "lora"),
			BeatsIn(OfExtra(stepSeconds), "paca", "lora"), BeatsIn(OfExtra(stepPeak), "paca", "lora"),
		),
	}
	for _, a := range []tuneArm{
		{"paca", Method, "paca", matchedRank(onlyOut)},
		{"lora", Baseline, "lora", 8},
		{"dora", Baseline, "dora", 8},
		{"full", Baseline, "full", 0},
	} {
		x.Arms = append(x.Arms, Arm{Name: a.name, Role: a.role, Run: func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
			m, err := a.run(ctx, e, seed)
			if err != nil {
				return m, err
			}
			f, err := footprintOf(ctx, e, a.method, seed)
			if err != nil {
				return m, err
			}
			m.Extra[stepSeconds.Name], m.Extra[stepPeak.Name] = f.seconds, f.peak
			if f.process > 0 {
				m.Extra[processPeak.Name] = f.process
			}
			return m, nil
		}})
	}
	return x
}
