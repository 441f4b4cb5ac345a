// Package vi is programmable variational inference (Becker, Lew, Wang, Ghavami, Huot,
// Rinard and Mansinghka, "Probabilistic Programming with Programmable Variational
// Inference", PLDI 2024): models, guides and objectives are Go functions, each random
// choice says how its gradient is estimated, and what comes out is an unbiased estimate of
// the gradient of the objective's expectation.
//
//	model := vi.Func(func(t *vi.Trace) {
//		z := t.Sample("z", vi.Normal{Mean: zero, LogScale: zero}, vi.Reparam)
//		t.Observe("y", vi.Normal{Mean: z, LogScale: zero}, y)
//	})
//	guide := vi.Func(func(t *vi.Trace) {
//		t.Sample("z", vi.Normal{Mean: tp.Use(mean), LogScale: tp.Use(scale)}, vi.Reparam)
//	})
//	e := vi.Estimator{Tape: tp, Rows: 64, Rand: rng}
//	bound, err := e.Surrogate(vi.ELBO(model, guide))
//	err = tp.Backward(tp.Scale(tp.Mean(bound), -1), sink)
//
// A program runs for many rows at once. Every value is a matrix whose row r belongs to
// copy r, or a single row that all copies share; copies never mix, and densities and
// objectives are columns [rows, 1]. For a batch of data a row is an example, for one
// global choice it is one more sample of it.
//
// Go has no continuations that run twice, so a choice that needs the rest of the program
// at several values (ENUM, MVD) has the objective run again with the choices before it
// replayed. A program must therefore be a function of its choices and read nothing that
// changes in between. It must not sample inside a Scope or Checkpoint of the tape, which
// free or repeat what is made in them.
package vi

import "errors"

// The faults of programs. What [Estimator.Surrogate] returns wraps one of them and names
// the choice.
var (
	ErrStrategy = errors.New("gradient strategy does not fit the distribution")
	ErrDensity  = errors.New("density is not finite")
	ErrSupport  = errors.New("value is outside the support")
	ErrAddress  = errors.New("choices do not match the program")
	ErrReplay   = errors.New("objective is not a function of its choices")
	ErrSetting  = errors.New("wrong setting")
)
