package prognosis

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Simulator makes engines that degrade somewhat like those of C-MAPSS. Nothing of it is
// an engine: it is a stand-in of known truth where the real files are not at hand, and
// what is measured on it is to be called simulated.
//
// The health of a unit falls from near 1 to 0, where it fails (after Saxena, Goebel, Simon
// and Eklund 2008, who degrade flow and efficiency so):
//
//	h(t) = 1 − d − w(t),  w(t+1) = w(t) + s (r + g w(t)) e^{ζ_t},   ζ_t ~ N(0, 0.3²)
//
// with a wear d ~ U(0, 0.1) from the start, a speed s that differs from unit to unit
// (log-normal, σ 0.25), r = 0.001 and g = 0.022, so that damage feeds on itself; units
// last about 150 to 300 cycles. Sensor j of a cycle in regime r reads
//
//	x_j = base_{r,j} + scale_j ( a_{m,j} (1 − h)^{p_j} + noise ε ),   ε ~ N(0, 1)
//
// where the response a depends on the unit's fault mode m. Six of the 21 sensors say
// nothing of the health, and two are constant. What base, scale, a and p are is drawn
// once from Seed, and is the same for all units of a fleet.
type Simulator struct {
	Regimes int     // operating conditions: 1, or 6 that change from cycle to cycle (1)
	Faults  int     // fault modes (1)
	Noise   float64 // of a sensor, in units of its response to the whole of a life (0.25)
	Seed    uint64
}

// regimes are altitude in thousands of feet, Mach number and throttle of C-MAPSS.
var regimes = [][Settings]float64{{0, 0, 100}, {10, 0.25, 100}, {20, 0.7, 100}, {25, 0.62, 60}, {35, 0.84, 100}, {42, 0.84, 100}}

// turbofan is what the units of a fleet share.
type turbofan struct {
	o     Simulator
	base  [][Sensors]float64
	scale [Sensors]float64
	gain  [][Sensors]float64
	power [Sensors]float64
}

// longest is the most cycles that a simulated unit is let run.
const longest = 1000

// Fleet makes units that ran to failure, and others that were stopped at a moment drawn
// evenly from the second to the ninth tenth of their life. Health holds the truth behind
// the former.
func (o Simulator) Fleet(train, test int) (failed, stopped []Unit, health [][]float64, err error) {
	if o.Regimes == 0 {
		o.Regimes = 1
	}
	if o.Faults == 0 {
		o.Faults = 1
	}
	if o.Noise == 0 {
		o.Noise = 0.25
	}
	if o.Regimes < 1 || o.Regimes > len(regimes) || o.Faults < 1 || !(o.Noise > 0) || train < 0 || test < 0 {
		return nil, nil, nil, fmt.Errorf("prognosis: %w: a simulator of %d regimes (1 to %d), %d faults, noise %v, for %d and %d units",
			ErrData, o.Regimes, len(regimes), o.Faults, o.Noise, train, test)
	}
	t := newTurbofan(o)
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	for i := range train {
		u, h := t.run(i+1, rng)
		failed, health = append(failed, u), append(health, h)
	}
	for i := range test {
		u, _ := t.run(i+1, rng)
		seen := max(1, int((0.2+0.7*rng.Float64())*float64(u.Cycles())))
		u.Left = u.Cycles() - seen
		u.Settings, u.Sensors = u.Settings[:seen], u.Sensors[:seen]
		stopped = append(stopped, u)
	}
	return failed, stopped, health, nil
}

func newTurbofan(o Simulator) *turbofan {
	t := &turbofan{o: o}
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	var response [Sensors]float64
	for j := range Sensors {
		t.scale[j] = math.Pow(10, 3*rng.Float64()-1)
		t.power[j] = 0.8 + 0.7*rng.Float64()
		response[j] = float64(1-2*rng.IntN(2)) * (0.5 + rng.Float64())
		switch {
		case j%7 == 4:
			t.scale[j] = 0 // constant, as some sensors of C-MAPSS are
		case j%3 == 0:
			response[j] = 0
		}
	}
	for range o.Faults {
		gain := response
		for j := range gain {
			gain[j] *= 0.7 + 0.6*rng.Float64()
		}
		t.gain = append(t.gain, gain)
	}
	for range o.Regimes {
		var base [Sensors]float64
		for j := range base {
			base[j] = 50 + 450*rng.Float64()
		}
		t.base = append(t.base, base)
	}
	return t
}

// run makes one unit that runs to failure, and its health.
func (t *turbofan) run(id int, rng *rand.Rand) (Unit, []float64) {
	u := Unit{ID: id}
	var health []float64
	wear, speed, fault := 0.1*rng.Float64(), math.Exp(0.25*rng.NormFloat64()), rng.IntN(t.o.Faults)
	start := wear
	for range longest {
		h := 1 - wear
		if h <= 0 {
			break
		}
		regime := rng.IntN(t.o.Regimes)
		settings := regimes[regime]
		settings[0] += 0.004 * rng.NormFloat64()
		settings[1] += 0.0003 * rng.NormFloat64()
		var x [Sensors]float64
		for j := range x {
			x[j] = t.base[regime][j] + t.scale[j]*(t.gain[fault][j]*math.Pow(1-h, t.power[j])+t.o.Noise*rng.NormFloat64())
		}
		u.Settings, u.Sensors, health = append(u.Settings, settings), append(u.Sensors, x), append(health, h)
		wear += speed * (0.001 + 0.022*(wear-start)) * math.Exp(0.3*rng.NormFloat64())
	}
	return u, health
}
