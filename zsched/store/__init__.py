"""Where zsched keeps what it knows. `contract` says what a store promises; `sqlite` opens one."""
