package lab

import (
	"context"
	"maps"
)

// transformedLowRank is the experiment of transformed low-rank adaptation (Tao et al.
// 2025), in parts. The fit: a tensor-ring transform of the inputs and a low-rank residual
// together shall come nearer to really fully tuned matrices than the best low rank and
// than a transform alone, at the entries of LoRA of rank 8, 4 and 2. The tune test: they
// shall end lower on held-out text than LoRA, DoRA and either transform alone, at as many
// entries. The subject test, the paper's own domain: drawings of a new digit shall come
// nearer to real ones than LoRA's and DoRA's. A ring of three modes with bonds of 2 has
// as many entries as one rank of LoRA. The transform alone is a train of two modes: of
// three, as many entries have bonds of 6, and an input becomes 36 times as wide.
func transformedLowRank() Experiment {
	x := Experiment{
		Slug:   "transformed-low-rank",
		Claim:  "A tensor-ring transform and a low-rank residual come nearer to fully tuned weights than low rank alone, and tune better, text and drawings, at the same number of trained entries.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 1,
	}
	for _, budgets := range transformedArms() {
		arm := budgets[0].with(fitPart(budgets...), subjectPart(budgets[0]))
		if arm.Name != "transformed" && arm.Name != "lora" {
			arm = textOnly(arm)
		}
		x.Arms = append(x.Arms, arm)
	}
	x.Rule = All(
		BeatsIn(OfExtra(fitErrors[0]), "transformed", "lora"), BeatsIn(OfExtra(fitErrors[1]), "transformed", "lora"), BeatsIn(OfExtra(fitErrors[2]), "transformed", "lora"),
		BeatsIn(OfExtra(fitErrors[0]), "transformed", "transform only"),
		BeatsIn(OfExtra(subjectDistance), "transformed", "lora"), BeatsIn(OfExtra(subjectDistance), "transformed", "dora"),
		Beats("transformed", "lora"), Beats("transformed", "dora"), Beats("transformed", "transform only"), Beats("transformed", "orthogonal"),
	)
	return x
}

// transformedArms are the method and its special cases, each with its settings for the tune
// test's number of trained entries, half and a quarter as many.
func transformedArms() [][]tuneArm {
	arm := func(name string, role Role, method string, ranks [3]int, settings ...string) (budgets []tuneArm) {
		for i, rank := range ranks {
			m := method
			if settings != nil {
				m += " " + settings[i]
			}
			budgets = append(budgets, tuneArm{name, role, m, rank})
		}
		return budgets
	}
	const alone = 8 // a rank that nothing uses
	return [][]tuneArm{
		arm("transformed", Method, "transformed", [3]int{7, 3, 1}),
		arm("transform only", Baseline, "transformed residual=none transform=train modes=2", [3]int{alone, alone, alone}, "bond=8", "bond=4", "bond=2"),
		arm("orthogonal", Baseline, "transformed residual=none transform=orthogonal", [3]int{alone, alone, alone}, "block=32", "block=16", "block=8"),
		arm("dora", Baseline, "dora", [3]int{8, 4, 2}),
		arm("lora", Baseline, "lora", [3]int{8, 4, 2}),
	}
}

// part adds figures to what an arm has measured.
type part func(ctx context.Context, e Env, seed uint64, m *Measurement) error

// with is an arm that runs the tune test and then the parts.
func (a tuneArm) with(parts ...part) Arm {
	return Arm{Name: a.name, Role: a.role, Run: func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		m, err := a.run(ctx, e, seed)
		for _, p := range parts {
			if err == nil {
				err = p(ctx, e, seed, &m)
			}
		}
		return m, err
	}}
}

// figuresPart adds what measure returns.
func figuresPart(measure func(ctx context.Context, e Env, seed uint64) (map[string]float64, error)) part {
	return func(ctx context.Context, e Env, seed uint64, m *Measurement) error {
		figures, err := measure(ctx, e, seed)
		maps.Copy(m.Extra, figures)
		return err
	}
}
