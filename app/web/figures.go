package web

import (
	"fmt"
	"math"
	"strconv"
)

// Bytes writes a byte count for people, in units of 1024.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	div, exp := int64(unit), 0
	for v := n / unit; v >= unit; v /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}

// Count writes a count for people, in units of 1000.
func Count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", float64(n)/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

// Number writes v with four significant digits, as a plain decimal where its size
// allows.
func Number(v float64) string {
	a := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case a >= 1e7 || a < 1e-4 || math.IsNaN(v):
		return strconv.FormatFloat(v, 'g', 4, 64)
	case a >= 1e4:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', decimals(v, 4), 64)
}

// Spread writes a mean with its standard error: the error to two significant digits
// and the mean to the same place. An error of zero, as one value has, is left out.
func Spread(mean, stderr float64) string {
	if stderr == 0 {
		return Number(mean)
	}
	if a := math.Abs(mean); a >= 1e7 || max(a, stderr) < 1e-4 {
		return Number(mean) + " ± " + strconv.FormatFloat(stderr, 'g', 2, 64)
	}
	d := min(8, decimals(stderr, 2))
	return strconv.FormatFloat(mean, 'f', d, 64) + " ± " + strconv.FormatFloat(stderr, 'f', d, 64)
}

// Seconds writes a duration for people.
func Seconds(s float64) string {
	switch {
	case s < 1e-3:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1e3)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)/60%60)
}

// decimals returns how many places after the point show that many significant
// digits of v.
func decimals(v float64, significant int) int {
	return max(0, significant-1-int(math.Floor(math.Log10(math.Abs(v)))))
}

// withUnit writes a figure's name with its unit. Bytes carry theirs themselves.
func withUnit(name, unit string) string {
	if unit == "" || unit == "bytes" {
		return name
	}
	return name + " (" + unit + ")"
}
