package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"tare/lab/record"
)

// stateDir is the folder of what is kept between runs: the one that TARE_STATE
// names, else tare in the user's state folder.
func stateDir() (string, error) {
	if dir := os.Getenv("TARE_STATE"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tare"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep records in; set TARE_STATE to one: %w", err)
	}
	return filepath.Join(home, ".local", "state", "tare"), nil
}

// openRecords opens the store of records, making it where it is missing.
func openRecords() (*record.Store, error) {
	path, err := recordsPath()
	if err != nil {
		return nil, err
	}
	return record.Open(path)
}

// recordsPath is the file of the lab's records.
func recordsPath() (string, error) {
	dir, err := stateDir()
	return filepath.Join(dir, "records.db"), err
}
