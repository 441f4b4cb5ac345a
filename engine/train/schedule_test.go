package train

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// The closed forms: k+1 over W in a warm-up of W steps; then 1, a line or half a cosine
// from 1 down to the floor at the last step.
func TestSchedules(t *testing.T) {
	const warmup, steps, floor = 10, 110, 0.2
	quarter := (1 + math.Sqrt2/2) / 2 // (1 + cos 45°)/2
	for name, want := range map[string]map[int]float64{
		"constant": {0: 0.1, 4: 0.5, 9: 1, 10: 1, 60: 1, 110: 1, 500: 1},
		"linear":   {0: 0.1, 4: 0.5, 9: 1, 10: 1, 35: 0.8, 60: 0.6, 85: 0.4, 110: floor, 500: floor},
		"cosine":   {0: 0.1, 4: 0.5, 9: 1, 10: 1, 35: floor + (1-floor)*quarter, 60: 0.6, 85: floor + (1-floor)*(1-quarter), 110: floor, 500: floor},
	} {
		s, err := NewSchedule(name, warmup, floor)
		if err != nil {
			t.Fatal(err)
		}
		for step, v := range want {
			if got := s(step, steps); math.Abs(got-v) > 1e-12 {
				t.Errorf("%s at %d of %d: %g, want %g", name, step, steps, got, v)
			}
		}
		for step := warmup; step < steps; step++ {
			if s(step+1, steps) > s(step, steps) {
				t.Errorf("%s rises at step %d", name, step)
			}
		}
		if flat, _ := NewSchedule(name, 0, floor); flat(0, steps) != 1 {
			t.Errorf("%s without warm-up begins at %g", name, flat(0, steps))
		}
		if all, _ := NewSchedule(name, steps, floor); all(steps-1, steps) != 1 {
			t.Errorf("%s in a run of warm-up alone ends at %g", name, all(steps-1, steps))
		}
	}
	for _, name := range Schedules() {
		if _, err := NewSchedule(name, 1, 0); err != nil {
			t.Errorf("%s is listed: %v", name, err)
		}
	}
	if _, err := NewSchedule("cosin", 1, 0); err == nil || !strings.Contains(err.Error(), "cosine") {
		t.Errorf("an unknown schedule: %v, want the known ones named", err)
	}
}

// A run uses the schedule's rate of each step.
func TestRunFollowsTheSchedule(t *testing.T) {
	s, err := NewSchedule("linear", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rates []float64
	l := newBowl().loop(Options{Steps: 6, LR: 0.4, Schedule: s}, after(func(l *Loop) { rates = append(rates, l.LR) }))
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNear(t, fmt.Sprint(rates), rates, []float64{0.2, 0.4, 0.4, 0.3, 0.2, 0.1}, 1e-12)
}
