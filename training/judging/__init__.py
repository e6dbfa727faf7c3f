"""Is the network better than forecasts that need no network?"""
