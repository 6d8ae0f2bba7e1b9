// Go's net/http asks for gzip by itself and decodes it. This prints each line when it arrives.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	client := http.Client{Timeout: time.Minute} // so that a test which waits in vain ends
	response, err := client.Get(os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("decoded:", response.Uncompressed)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	if err := lines.Err(); err != nil { // also for a wrong trailer
		panic(err)
	}
}
