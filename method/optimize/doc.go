// Package optimize holds solvers for problems of statistics and learning: matrix
// completion, block coordinate descent, constrained and bilevel optimisation. A method is
// a struct of options whose Fit or Minimize returns what it found as a struct of results;
// everything is float64, on gonum, but for what a tape computes.
//
// Solvers take a context, stop at a tolerance or at a limit of iterations, and keep a
// trace. One that stops before its tolerance returns what it reached beside a
// [StoppedError], which says why and with what residual.
package optimize

import (
	"errors"
	"fmt"
	"strings"
)

// ErrOptions marks settings that are out of their range.
var ErrOptions = errors.New("wrong options")

// ErrData is what every fault of the data wraps.
var ErrData = errors.New("unfit data")

// optionsError says all that is wrong with a method's settings at once, or is nil.
func optionsError(method string, wrong []string) error {
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("optimize: %s: %w: %s", method, ErrOptions, strings.Join(wrong, "; "))
}

// StoppedError is a solver that ended before it met its tolerance.
type StoppedError struct {
	Method     string
	Why        string
	Iterations int
	Residual   float64
	Tol        float64
}

// Error says why it stopped and how far it was.
func (e *StoppedError) Error() string {
	return fmt.Sprintf("optimize: %s: stopped after %d iterations with residual %.3g, tolerance %.3g: %s", e.Method, e.Iterations, e.Residual, e.Tol, e.Why)
}
