package train

import (
	"fmt"
	"math"
)

// Schedule gives the learning rate of a step as a fraction of the peak rate.
type Schedule func(step, steps int) float64

// Schedules lists the known schedules by name.
func Schedules() []string { return []string{"constant", "linear", "cosine"} }

// NewSchedule returns a schedule that rises linearly over the first warmup steps
// and then stays ("constant"), falls linearly to floor ("linear"), or falls along
// half a cosine to floor ("cosine").
func NewSchedule(name string, warmup int, floor float64) (Schedule, error) {
	var shape func(at float64) float64 // at in 0..1 after warm-up
	switch name {
	case "constant":
		shape = func(float64) float64 { return 1 }
	case "linear":
		shape = func(at float64) float64 { return 1 - (1-floor)*at }
	case "cosine":
		shape = func(at float64) float64 { return floor + (1-floor)*(1+math.Cos(math.Pi*at))/2 }
	default:
		return nil, fmt.Errorf("train: schedule %q is not known (known: %v)", name, Schedules())
	}
	return func(step, steps int) float64 {
		if step < warmup {
			return float64(step+1) / float64(warmup)
		}
		return shape(math.Min(1, float64(step-warmup)/math.Max(1, float64(steps-warmup))))
	}, nil
}
