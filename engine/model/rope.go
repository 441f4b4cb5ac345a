package model

import (
	"encoding/json"
	"fmt"
	"math"

	"tare/engine/grad"
)

// RopeScaling stretches rotary positions: Type "linear" divides positions by
// Factor; "llama3" rescales low frequencies as Llama 3.1 does.
type RopeScaling struct {
	Type                 string  `json:"rope_type"`
	OldType              string  `json:"type,omitempty"`
	Factor               float64 `json:"factor"`
	LowFreqFactor        float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor       float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositions int     `json:"original_max_position_embeddings,omitempty"`
	Theta                float64 `json:"rope_theta,omitempty"` // newer files keep it here
	PartialRotary        float64 `json:"partial_rotary_factor,omitempty"`
}

// readRope takes in rope_scaling, and rope_parameters, where newer files keep it with
// rope_theta and what else shapes the angles; by kind of layer where these differ.
func (c *Config) readRope() {
	if c.has("rope_parameters") {
		var kinds struct {
			Full    *RopeScaling `json:"full_attention"`
			Sliding *RopeScaling `json:"sliding_attention"`
		}
		switch json.Unmarshal(c.Raw["rope_parameters"], &kinds); {
		case kinds.Full != nil:
			c.RopeScaling = kinds.Full
			if kinds.Sliding != nil {
				c.localTheta = kinds.Sliding.Theta
			}
		default:
			c.read("rope_parameters", &c.RopeScaling)
		}
	}
	s := c.RopeScaling
	if s == nil {
		return
	}
	if s.Type == "" {
		s.Type = s.OldType
	}
	if s.Theta > 0 {
		c.RopeTheta = s.Theta
	}
	if s.PartialRotary > 0 {
		c.PartialRotary = s.PartialRotary
	}
}

// wrong says what no angles can be made from.
func (s *RopeScaling) wrong() (wrong []string) {
	if s == nil {
		return nil
	}
	switch s.Type {
	case "", "default":
	case "linear", "llama3":
		if !(s.Factor >= 1) {
			wrong = append(wrong, fmt.Sprintf("rope_scaling factor = %g (want at least 1)", s.Factor))
		}
		if s.Type == "llama3" && !(s.LowFreqFactor > 0 && s.HighFreqFactor > s.LowFreqFactor && s.OriginalMaxPositions > 0) {
			wrong = append(wrong, "rope_scaling llama3 needs 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings")
		}
	default:
		wrong = append(wrong, fmt.Sprintf("rope_scaling type %q (known: default, linear, llama3)", s.Type))
	}
	return wrong
}

// rotary is a table of angles that grows with the positions asked for.
type rotary struct {
	grad.Rotary
	frequencies []float64
	limit       int // positions
}

func newRotary(c *Config, theta float64, s *RopeScaling) *rotary {
	dim := c.rotaryDim()
	return &rotary{grad.Rotary{Dim: dim}, frequencies(dim, theta, s), c.MaxPositions}
}

// reach makes the table reach all positions of seqs, doubling so that decoding does not
// rebuild it at every token.
func (r *rotary) reach(seqs grad.Sequences) {
	positions := 0
	for i, n := range seqs.Lengths {
		positions = max(positions, seqs.Offset(i)+n)
	}
	half := r.Dim / 2
	if positions*half <= len(r.Cos) {
		return
	}
	positions = min(r.limit, max(256, 2*positions))
	cos, sin := make([]float32, positions*half), make([]float32, positions*half)
	for t := range positions {
		for i, f := range r.frequencies {
			s, c := math.Sincos(float64(t) * f)
			cos[t*half+i], sin[t*half+i] = float32(c), float32(s)
		}
	}
	r.Cos, r.Sin = cos, sin
}

// frequencies returns the rotary angle per position of each pair of columns.
func frequencies(dim int, theta float64, s *RopeScaling) []float64 {
	f := make([]float64, dim/2)
	for i := range f {
		f[i] = math.Pow(theta, -2*float64(i)/float64(dim))
	}
	if s == nil {
		return f
	}
	switch s.Type {
	case "linear":
		for i := range f {
			f[i] /= s.Factor
		}
	case "llama3":
		// Wavelengths longer than original/low are stretched by Factor, shorter than
		// original/high kept, and those between blended.
		for i, w := range f {
			turns := float64(s.OriginalMaxPositions) * w / (2 * math.Pi)
			blend := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
			blend = math.Min(1, math.Max(0, blend))
			f[i] = (1-blend)*w/s.Factor + blend*w
		}
	}
	return f
}
