// Package stats holds the statistical models: each is fitted to a table or to sequences,
// in float64, by an options struct whose Fit returns the model with its results as fields.
package stats

import (
	"errors"
	"fmt"
)

// ErrOptions marks settings that are out of their range.
var ErrOptions = errors.New("wrong options")

// ErrData is what every fault of the data wraps.
var ErrData = errors.New("unfit data")

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
	return fmt.Sprintf("stats: %s: stopped after %d steps with residual %.3g, tolerance %.3g: %s", e.Method, e.Iterations, e.Residual, e.Tol, e.Why)
}
