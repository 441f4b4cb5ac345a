package prognosis

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Indicator makes one number a cycle of a unit's sensors, near 1 in health and near 0 at
// failure. Sensors are standardised within their operating regime first.
//
// By regression the indicator is the linear function of the sensors that is nearest to 1
// on the first tenth of each life and to 0 on the last tenth. By principal component it
// is the first one, with its sign and scale such that the same stretches have means 1
// and 0. Either way it is smoothed by ĥ_t = ĥ_{t−1} + s (h_t − ĥ_{t−1}).
type Indicator struct {
	By     string  // "regression" or "component" ("regression")
	Smooth float64 // s in (0, 1] (0.2)

	regimes map[regime]*scaling
	weight  [1 + Sensors]float64
}

// regime is where settings fall when altitude is rounded to thousands of feet, the Mach
// number to hundredths and the throttle to whole numbers, which tells those of C-MAPSS
// apart.
type regime [Settings]int

func regimeOf(s [Settings]float64) regime {
	return regime{int(math.Round(s[0])), int(math.Round(100 * s[1])), int(math.Round(s[2]))}
}

// scaling is the mean and the deviation of the sensors in a regime.
type scaling struct{ mean, inverse [Sensors]float64 }

// ends is the share of a life at its start and at its end that counts as health and
// as failure.
const ends = 0.1

// Fit learns the indicator from units that ran to failure.
func (ind *Indicator) Fit(units []Unit) error {
	if ind.By == "" {
		ind.By = "regression"
	}
	if ind.Smooth == 0 {
		ind.Smooth = 0.2
	}
	if ind.By != "regression" && ind.By != "component" || !(ind.Smooth > 0 && ind.Smooth <= 1) {
		return fmt.Errorf("prognosis: %w: an indicator by %q smoothed by %v; want regression or component, and 0 to 1", ErrData, ind.By, ind.Smooth)
	}
	if len(units) == 0 {
		return fmt.Errorf("prognosis: %w: there is no unit to learn from", ErrData)
	}
	ind.scale(units)
	ind.weight = [1 + Sensors]float64{}
	var rows, targets []float64 // the ends of all lives
	for i := range units {
		u := &units[i]
		n := max(1, int(math.Ceil(ends*float64(u.Cycles()))))
		if u.Cycles() < 2*n {
			return fmt.Errorf("prognosis: %w: unit %d has %d cycles, too few for a start and an end", ErrData, u.ID, u.Cycles())
		}
		for t := range u.Cycles() {
			target := 1.0
			if t >= u.Cycles()-n {
				target = 0
			} else if t >= n {
				continue
			}
			x := ind.standard(u, t)
			rows, targets = append(append(rows, 1), x[:]...), append(targets, target)
		}
	}
	x := mat.NewDense(len(targets), 1+Sensors, rows)
	if ind.By == "component" {
		return ind.component(units, x, targets)
	}
	// A hundredth of an observation's weight keeps constant sensors at 0.
	var gram mat.SymDense
	gram.SymOuterK(1, x.T())
	for j := 1; j <= Sensors; j++ {
		gram.SetSym(j, j, gram.At(j, j)+0.01)
	}
	var xy, w mat.VecDense
	xy.MulVec(x.T(), mat.NewVecDense(len(targets), targets))
	var chol mat.Cholesky
	if !chol.Factorize(&gram) {
		return fmt.Errorf("prognosis: %w: the sensors' squares do not form a positive definite matrix", ErrData)
	}
	if err := chol.SolveVecTo(&w, &xy); err != nil {
		return fmt.Errorf("prognosis: indicator: %w", err)
	}
	copy(ind.weight[:], w.RawVector().Data)
	return nil
}

// scale learns the regimes.
func (ind *Indicator) scale(units []Unit) {
	ind.regimes = map[regime]*scaling{}
	count := map[regime]float64{}
	each := func(do func(n float64, s *scaling, j int, v float64)) {
		for i := range units {
			for t := range units[i].Cycles() {
				r := regimeOf(units[i].Settings[t])
				if ind.regimes[r] == nil {
					ind.regimes[r] = &scaling{}
				}
				for j, v := range units[i].Sensors[t] {
					do(count[r], ind.regimes[r], j, v)
				}
			}
		}
	}
	for i := range units {
		for _, s := range units[i].Settings {
			count[regimeOf(s)]++
		}
	}
	each(func(n float64, s *scaling, j int, v float64) { s.mean[j] += v / n })
	each(func(n float64, s *scaling, j int, v float64) { s.inverse[j] += (v - s.mean[j]) * (v - s.mean[j]) / n })
	for _, s := range ind.regimes {
		for j, v := range s.inverse {
			s.inverse[j] = 0
			if v > 1e-18*s.mean[j]*s.mean[j] { // else constant but for rounding
				s.inverse[j] = 1 / math.Sqrt(v)
			}
		}
	}
}

// standard returns a cycle's sensors in their regime's units; of a regime that was not
// learned, in the nearest one's.
func (ind *Indicator) standard(u *Unit, t int) (x [Sensors]float64) {
	r := regimeOf(u.Settings[t])
	s := ind.regimes[r]
	if s == nil {
		least := math.Inf(1)
		for other, scaling := range ind.regimes {
			var d float64
			for j := range r {
				d += math.Pow(float64(r[j]-other[j]), 2)
			}
			if d < least || d == least && s != nil && scaling.mean[0] < s.mean[0] {
				s, least = scaling, d
			}
		}
	}
	for j, v := range u.Sensors[t] {
		x[j] = (v - s.mean[j]) * s.inverse[j]
	}
	return x
}

// component takes the first principal component of all cycles as the indicator.
func (ind *Indicator) component(units []Unit, ends *mat.Dense, targets []float64) error {
	cov := mat.NewSymDense(Sensors, nil)
	for i := range units {
		for t := range units[i].Cycles() {
			x := ind.standard(&units[i], t)
			cov.SymRankOne(cov, 1, mat.NewVecDense(Sensors, x[:]))
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(cov, true) {
		return fmt.Errorf("prognosis: %w: the sensors' covariance has no eigenvectors", ErrData)
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	var sum, count [2]float64
	for i, target := range targets {
		for j := range Sensors {
			sum[int(target)] += vectors.At(j, Sensors-1) * ends.At(i, 1+j)
		}
		count[int(target)]++
	}
	failed, well := sum[0]/count[0], sum[1]/count[1]
	if failed == well {
		return fmt.Errorf("prognosis: %w: the first component is as large in health as at failure", ErrData)
	}
	ind.weight[0] = -failed / (well - failed)
	for j := range Sensors {
		ind.weight[1+j] = vectors.At(j, Sensors-1) / (well - failed)
	}
	return nil
}

// Of returns a unit's indicator, one number a cycle.
func (ind *Indicator) Of(u *Unit) []float64 {
	h := make([]float64, u.Cycles())
	for t := range h {
		v := ind.weight[0]
		for j, x := range ind.standard(u, t) {
			v += ind.weight[1+j] * x
		}
		if t == 0 {
			h[t] = v
			continue
		}
		h[t] = h[t-1] + ind.Smooth*(v-h[t-1])
	}
	return h
}
