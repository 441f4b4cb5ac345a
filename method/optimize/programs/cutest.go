package programs

import "math"

// Cutest lists the equality-constrained problems: those named HS are of Hock and Schittkowski,
// "Test Examples for Nonlinear Programming Codes" (1981), BT of Boggs and Tolle (1989), and all
// carry their names in CUTEst. LNP are those of which only the constraints that hold with
// equality are kept.
func Cutest() []*Formula {
	root2 := math.Sqrt2
	return []*Formula{
		{Name: "HS6", Start: []float64{-1.2, 1}, Optimum: 0,
			F: func(x []Jet) Jet { return x[0].Plus(-1).Pow(2) },
			C: func(x []Jet) []Jet { return []Jet{x[1].Sub(x[0].Pow(2)).Times(10)} }},
		{Name: "HS7", Start: []float64{2, 2}, Optimum: -math.Sqrt(3),
			F: func(x []Jet) Jet { return x[0].Pow(2).Plus(1).Log().Sub(x[1]) },
			C: func(x []Jet) []Jet { return []Jet{x[0].Pow(2).Plus(1).Pow(2).Add(x[1].Pow(2)).Plus(-4)} }},
		{Name: "HS8", Start: []float64{2, 1}, Optimum: -1,
			F: func(x []Jet) Jet { return x[0].Times(0).Plus(-1) },
			C: func(x []Jet) []Jet { return []Jet{x[0].Pow(2).Add(x[1].Pow(2)).Plus(-25), x[0].Mul(x[1]).Plus(-9)} }},
		{Name: "HS9", Start: []float64{0, 0}, Optimum: -0.5,
			F: func(x []Jet) Jet { return x[0].Times(math.Pi / 12).Sin().Mul(x[1].Times(math.Pi / 16).Cos()) },
			C: func(x []Jet) []Jet { return []Jet{linear(x, 0, 4, -3)} }},
		{Name: "HS26", Start: []float64{-2.6, 2, 2}, Optimum: 0,
			F: func(x []Jet) Jet { return x[0].Sub(x[1]).Pow(2).Add(x[1].Sub(x[2]).Pow(4)) },
			C: func(x []Jet) []Jet { return []Jet{x[1].Pow(2).Plus(1).Mul(x[0]).Add(x[2].Pow(4)).Plus(-3)} }},
		{Name: "HS27", Start: []float64{2, 2, 2}, Optimum: 0.04,
			F: func(x []Jet) Jet { return x[0].Plus(-1).Pow(2).Times(0.01).Add(x[1].Sub(x[0].Pow(2)).Pow(2)) },
			C: func(x []Jet) []Jet { return []Jet{x[0].Add(x[2].Pow(2)).Plus(1)} }},
		{Name: "HS28", Start: []float64{-4, 1, 1}, Optimum: 0,
			F: func(x []Jet) Jet { return x[0].Add(x[1]).Pow(2).Add(x[1].Add(x[2]).Pow(2)) },
			C: func(x []Jet) []Jet { return []Jet{linear(x, -1, 1, 2, 3)} }},
		{Name: "HS39", Start: repeated(4, 2), Optimum: -1,
			F: func(x []Jet) Jet { return x[0].Times(-1) },
			C: func(x []Jet) []Jet {
				return []Jet{x[1].Sub(x[0].Pow(3)).Sub(x[2].Pow(2)), x[0].Pow(2).Sub(x[1]).Sub(x[3].Pow(2))}
			}},
		{Name: "HS40", Start: repeated(4, 0.8), Optimum: -0.25,
			F: func(x []Jet) Jet { return product(x...).Times(-1) },
			C: func(x []Jet) []Jet {
				return []Jet{x[0].Pow(3).Add(x[1].Pow(2)).Plus(-1), x[0].Pow(2).Mul(x[3]).Sub(x[2]), x[3].Pow(2).Sub(x[1])}
			}},
		{Name: "HS42", Start: repeated(4, 1), Optimum: 28 - 10*root2,
			F: func(x []Jet) Jet {
				return total(x[0].Plus(-1).Pow(2), x[1].Plus(-2).Pow(2), x[2].Plus(-3).Pow(2), x[3].Plus(-4).Pow(2))
			},
			C: func(x []Jet) []Jet { return []Jet{x[0].Plus(-2), x[2].Pow(2).Add(x[3].Pow(2)).Plus(-2)} }},
		{Name: "HS46", Start: []float64{root2 / 2, 1.75, 0.5, 2, 2}, Optimum: 0,
			F: func(x []Jet) Jet {
				return total(x[0].Sub(x[1]).Pow(2), x[2].Plus(-1).Pow(2), x[3].Plus(-1).Pow(4), x[4].Plus(-1).Pow(6))
			},
			C: func(x []Jet) []Jet {
				return []Jet{x[0].Pow(2).Mul(x[3]).Add(x[3].Sub(x[4]).Sin()).Plus(-1), x[1].Add(x[2].Pow(4).Mul(x[3].Pow(2))).Plus(-2)}
			}},
		{Name: "HS48", Start: []float64{3, 5, -3, 2, -2}, Optimum: 0,
			F: func(x []Jet) Jet { return total(x[0].Plus(-1).Pow(2), x[1].Sub(x[2]).Pow(2), x[3].Sub(x[4]).Pow(2)) },
			C: func(x []Jet) []Jet { return []Jet{linear(x, -5, 1, 1, 1, 1, 1), linear(x, 3, 0, 0, 1, -2, -2)} }},
		{Name: "HS49", Start: []float64{10, 7, 2, -3, 0.8}, Optimum: 0,
			F: func(x []Jet) Jet {
				return total(x[0].Sub(x[1]).Pow(2), x[2].Plus(-1).Pow(2), x[3].Plus(-1).Pow(4), x[4].Plus(-1).Pow(6))
			},
			C: func(x []Jet) []Jet { return []Jet{linear(x, -7, 1, 1, 1, 4), linear(x, -6, 0, 0, 1, 0, 5)} }},
		{Name: "HS50", Start: []float64{35, -31, 11, 5, -5}, Optimum: 0,
			F: func(x []Jet) Jet {
				return total(x[0].Sub(x[1]).Pow(2), x[1].Sub(x[2]).Pow(2), x[2].Sub(x[3]).Pow(4), x[3].Sub(x[4]).Pow(2))
			},
			C: func(x []Jet) []Jet {
				return []Jet{linear(x, -6, 1, 2, 3), linear(x, -6, 0, 1, 2, 3), linear(x, -6, 0, 0, 1, 2, 3)}
			}},
		{Name: "HS51", Start: []float64{2.5, 0.5, 2, -1, 0.5}, Optimum: 0,
			F: func(x []Jet) Jet {
				return total(x[0].Sub(x[1]).Pow(2), x[1].Add(x[2]).Plus(-2).Pow(2), x[3].Plus(-1).Pow(2), x[4].Plus(-1).Pow(2))
			},
			C: func(x []Jet) []Jet {
				return []Jet{linear(x, -4, 1, 3), linear(x, 0, 0, 0, 1, 1, -2), linear(x, 0, 0, 1, 0, 0, -1)}
			}},
		{Name: "HS52", Start: repeated(5, 2), Optimum: 1859.0 / 349,
			F: func(x []Jet) Jet {
				return total(linear(x, 0, 4, -1).Pow(2), x[1].Add(x[2]).Plus(-2).Pow(2), x[3].Plus(-1).Pow(2), x[4].Plus(-1).Pow(2))
			},
			C: homogeneous},
		{Name: "HS56", Start: hs56Start(), Optimum: -3.456,
			F: func(x []Jet) Jet { return product(x[:3]...).Times(-1) },
			C: func(x []Jet) []Jet {
				var out []Jet
				for i := range 3 {
					out = append(out, combine(1, x[i], -4.2, x[i+3].Sin().Pow(2)))
				}
				return append(out, combine(1, linear(x, 0, 1, 2, 2), -7.2, x[6].Sin().Pow(2)))
			}},
		{Name: "HS77", Start: repeated(5, 2), Optimum: 0.24150513,
			F: func(x []Jet) Jet {
				return total(x[0].Plus(-1).Pow(2), x[0].Sub(x[1]).Pow(2), x[2].Plus(-1).Pow(2), x[3].Plus(-1).Pow(4), x[4].Plus(-1).Pow(6))
			},
			C: func(x []Jet) []Jet {
				return []Jet{x[0].Pow(2).Mul(x[3]).Add(x[3].Sub(x[4]).Sin()).Plus(-2 * root2), x[1].Add(x[2].Pow(4).Mul(x[3].Pow(2))).Plus(-8 - root2)}
			}},
		{Name: "HS78", Start: []float64{-2, 1.5, 2, -1, -1}, Optimum: -2.91970041,
			F: func(x []Jet) Jet { return product(x...) },
			C: func(x []Jet) []Jet {
				return []Jet{squares(x).Plus(-10), combine(1, x[1].Mul(x[2]), -5, x[3].Mul(x[4])), x[0].Pow(3).Add(x[1].Pow(3)).Plus(1)}
			}},
		{Name: "HS79", Start: repeated(5, 2), Optimum: 0.0787768209,
			F: func(x []Jet) Jet {
				return total(x[0].Plus(-1).Pow(2), x[0].Sub(x[1]).Pow(2), x[1].Sub(x[2]).Pow(2), x[2].Sub(x[3]).Pow(4), x[3].Sub(x[4]).Pow(4))
			},
			C: func(x []Jet) []Jet {
				return []Jet{total(x[0], x[1].Pow(2), x[2].Pow(3)).Plus(-2 - 3*root2), x[1].Sub(x[2].Pow(2)).Add(x[3]).Plus(2 - 2*root2), x[0].Mul(x[4]).Plus(-2)}
			}},
		{Name: "HS100LNP", Start: []float64{1, 2, 0, 4, 0, 1, 1}, Optimum: 680.6300573, F: hs100, C: hs100Equalities},
		{Name: "HS111LNP", Start: repeated(10, -2.3), Optimum: -47.76109026, F: hs111, C: hs111Elements},
		{Name: "BT1", Start: []float64{0.08, 0.06}, Optimum: -1,
			F: func(x []Jet) Jet { return combine(100, squares(x), -1, x[0]).Plus(-100) },
			C: func(x []Jet) []Jet { return []Jet{squares(x).Plus(-1)} }},
		{Name: "BT2", Start: repeated(3, 10), Optimum: 0.03256820,
			F: func(x []Jet) Jet { return total(x[0].Plus(-1).Pow(2), x[0].Sub(x[1]).Pow(2), x[1].Sub(x[2]).Pow(4)) },
			C: func(x []Jet) []Jet {
				return []Jet{x[0].Mul(x[1].Pow(2).Plus(1)).Add(x[2].Pow(4)).Plus(-4 - 3*root2)}
			}},
		{Name: "BT3", Start: repeated(5, 20), Optimum: 176.0 / 43,
			F: func(x []Jet) Jet {
				return total(x[0].Sub(x[1]).Pow(2), x[1].Add(x[2]).Plus(-2).Pow(2), x[3].Plus(-1).Pow(2), x[4].Plus(-1).Pow(2))
			},
			C: homogeneous},
		{Name: "BT5", Start: repeated(3, 2), Optimum: 961.7151721,
			F: func(x []Jet) Jet {
				return total(x[0].Pow(2), x[1].Pow(2).Times(2), x[2].Pow(2), x[0].Mul(x[1]), x[0].Mul(x[2])).Times(-1).Plus(1000)
			},
			C: func(x []Jet) []Jet { return []Jet{squares(x).Plus(-25), linear(x, -56, 8, 14, 7)} }},
		{Name: "BT10", Start: repeated(2, 2), Optimum: -1,
			F: func(x []Jet) Jet { return x[0].Times(-1) },
			C: func(x []Jet) []Jet { return []Jet{x[1].Sub(x[0].Pow(3)), x[0].Pow(2).Sub(x[1])} }},
		{Name: "BT12", Start: []float64{15.811, 1.5811, 0, 15.083, 3.7164}, Optimum: 625.0 / 101,
			F: func(x []Jet) Jet { return combine(0.01, x[0].Pow(2), 1, x[1].Pow(2)) },
			C: func(x []Jet) []Jet {
				return []Jet{x[0].Add(x[1]).Sub(x[2].Pow(2)).Plus(-25), x[0].Pow(2).Add(x[1].Pow(2)).Sub(x[3].Pow(2)).Plus(-25), x[0].Sub(x[4].Pow(2)).Plus(-2)}
			}},
		{Name: "MARATOS", Start: []float64{1.1, 0.1}, Optimum: -1,
			F: func(x []Jet) Jet { return combine(1e-6, squares(x).Plus(-1), -1, x[0]) },
			C: func(x []Jet) []Jet { return []Jet{squares(x).Plus(-1)} }},
		{Name: "BYRDSPHR", Start: []float64{5, 0.0001, -0.0001}, Optimum: -0.5 - math.Sqrt(17.5),
			F: func(x []Jet) Jet { return total(x...).Times(-1) },
			C: func(x []Jet) []Jet {
				return []Jet{squares(x).Plus(-9), total(x[0].Plus(-1).Pow(2), x[1].Pow(2), x[2].Pow(2)).Plus(-9)}
			}},
		{Name: "GENHS28", Start: append([]float64{-4}, repeated(9, 1)...), Optimum: 0.92717369,
			F: func(x []Jet) Jet {
				out := x[0].Add(x[1]).Pow(2)
				for i := 1; i < 9; i++ {
					out = out.Add(x[i].Add(x[i+1]).Pow(2))
				}
				return out
			},
			C: func(x []Jet) []Jet {
				var out []Jet
				for i := range 8 {
					out = append(out, linear(x[i:], -1, 1, 2, 3))
				}
				return out
			}},
	}
}

// HS61 is the problem of that number; at its published start the gradients of its constraints
// depend on one another.
func HS61() *Formula {
	return &Formula{Name: "HS61", Start: repeated(3, 0), Optimum: -143.6461422,
		F: func(x []Jet) Jet {
			return linear(x, 0, -33, 16, -24).Add(total(x[0].Pow(2).Times(4), x[1].Pow(2).Times(2), x[2].Pow(2).Times(2)))
		},
		C: func(x []Jet) []Jet {
			return []Jet{combine(3, x[0], -2, x[1].Pow(2)).Plus(-7), x[0].Times(4).Sub(x[2].Pow(2)).Plus(-11)}
		}}
}

// squares is Σ xᵢ².
func squares(x []Jet) Jet {
	out := x[0].Pow(2)
	for _, v := range x[1:] {
		out = out.Add(v.Pow(2))
	}
	return out
}

// homogeneous are the constraints of HS52 and BT3.
func homogeneous(x []Jet) []Jet {
	return []Jet{linear(x, 0, 1, 3), linear(x, 0, 0, 0, 1, 1, -2), linear(x, 0, 0, 1, 0, 0, -1)}
}

func hs56Start() []float64 {
	a, b := math.Asin(math.Sqrt(1/4.2)), math.Asin(math.Sqrt(5/7.2))
	return []float64{1, 1, 1, a, a, a, b}
}

func hs100(x []Jet) Jet {
	return total(x[0].Plus(-10).Pow(2), x[1].Plus(-12).Pow(2).Times(5), x[2].Pow(4), x[3].Plus(-11).Pow(2).Times(3), x[4].Pow(6).Times(10),
		x[5].Pow(2).Times(7), x[6].Pow(4), x[5].Mul(x[6]).Times(-4), x[5].Times(-10), x[6].Times(-8))
}

func hs100Equalities(x []Jet) []Jet {
	return []Jet{
		total(x[0].Pow(2).Times(-2), x[1].Pow(4).Times(-3), x[2].Times(-1), x[3].Pow(2).Times(-4), x[4].Times(-5)).Plus(127),
		total(x[0].Pow(2).Times(-4), x[1].Pow(2).Times(-1), x[0].Mul(x[1]).Times(3), x[2].Pow(2).Times(-2), x[5].Times(-5), x[6].Times(11)),
	}
}

func hs111(x []Jet) Jet {
	energy := []float64{-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179}
	e := exponentials(x)
	all := total(e...).Log()
	out := e[0].Mul(x[0].Sub(all).Plus(energy[0]))
	for i := 1; i < 10; i++ {
		out = out.Add(e[i].Mul(x[i].Sub(all).Plus(energy[i])))
	}
	return out
}

func hs111Elements(x []Jet) []Jet {
	e := exponentials(x)
	return []Jet{
		linear(e, -2, 1, 2, 2, 0, 0, 1, 0, 0, 0, 1),
		linear(e, -1, 0, 0, 0, 1, 2, 1, 1),
		linear(e, -1, 0, 0, 1, 0, 0, 0, 1, 1, 2, 1),
	}
}

func exponentials(x []Jet) []Jet {
	out := make([]Jet, len(x))
	for i, v := range x {
		out[i] = v.Exp()
	}
	return out
}
